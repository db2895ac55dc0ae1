// The engine against node-llama-cpp on the same GGUF, in one run, taking turns: what slows one round slows both. Each side runs with each number of threads, the
// peer with flash attention and without; a row compares each side's best. `--clock cpu` counts the time of the processor, for machines that others use too.
//   npm run bench -- peers [--model FILE.gguf|llama-1b-Q4_0|llama-1b-Q4_K_M] [--backend onnxruntime|ggml] [--threads 1,2] [--contexts 16,512] [--decode 32]
//     [--streams 8] [--clock wall|cpu] [--seconds 150] [--only graft|llama-cpp]
import { execFileSync, fork } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cacheFolder, defaultModel } from './default-model.mjs';
import { llama1b } from './random-gguf.mjs';

const peerVersion = '3.22.1';
const here = dirname(fileURLToPath(import.meta.url));
const leastRounds = 3;
const hardLimitMs = 200_000; // no further round after this, even if there were fewer than the least
const answerLimitMs = 300_000; // one measurement takes seconds; a machine on which it takes this long tells nothing

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: 'string' },
      threads: { type: 'string', default: '1,2' },
      contexts: { type: 'string', default: '16,512' },
      decode: { type: 'string', default: '32' },
      streams: { type: 'string', default: '8' },
      clock: { type: 'string', default: 'wall' },
      backend: { type: 'string' },
      seconds: { type: 'string', default: '150' },
      only: { type: 'string' },
    },
  });
  const [, shape] = /^llama-1b-(Q4_0|Q4_K_M)$/.exec(values.model ?? '') ?? [];
  const model = shape === undefined ? (values.model ?? defaultModel()) : llama1b(shape);
  const contexts = values.contexts.split(',').map(Number);
  const decodeTokens = Number(values.decode);
  const streams = Number(values.streams);
  const settings = {
    model,
    streams,
    backend: values.backend,
    contextTokens: Math.ceil((Math.max(...contexts) + decodeTokens + 2) / 256) * 256,
  };
  const variants = values.threads
    .split(',')
    .flatMap((threads) => [
      { side: 'graft', threads: Number(threads) },
      ...[true, false].map((flashAttention) => ({ side: 'llama-cpp', threads: Number(threads), flashAttention })),
    ]);
  const contenders = [];
  try {
    for (const { side, ...variant } of variants.filter(({ side }) => [undefined, side].includes(values.only)))
      contenders.push(await startContender(side, side === 'graft' ? [] : [installPeer(), peerVersion], { ...settings, ...variant }));
    const load = { contexts, decodeTokens, streams, clock: values.clock };
    const samples = await takeTurns(contenders, load, Number(values.seconds) * 1000);
    const peaks = await Promise.all(contenders.map(({ ask }) => ask('peakMegabytes')));
    return report(contenders, samples, model, load, peaks);
  } finally {
    for (const contender of contenders) contender.stop();
  }
}

/** Installs the peer on first use, outside the repository; its binary comes as an optional npm package, nothing is downloaded or built. */
function installPeer() {
  const folder = join(cacheFolder, 'peers', `node-llama-cpp-${peerVersion}`);
  if (existsSync(join(folder, 'node_modules', 'node-llama-cpp', 'package.json'))) return folder;
  console.log(`installing node-llama-cpp ${peerVersion} into ${folder} (about 700 MB)`);
  mkdirSync(folder, { recursive: true });
  const args = [
    'install',
    '--prefix',
    folder,
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    `node-llama-cpp@${peerVersion}`,
  ];
  execFileSync('npm', args, { cwd: folder, stdio: 'inherit' });
  return folder;
}

/** Starts a contender's process; `ask` sends it one call and gives the answer. */
async function startContender(name, args, settings) {
  const child = fork(join(here, 'contenders', `${name}.mjs`), args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const ask = (call, argument) =>
    new Promise((resolve, reject) => {
      const fail = (reason) => finish(() => reject(new Error(`${name}: ${reason}`)));
      const timer = setTimeout(() => fail(`no answer in ${answerLimitMs / 1000} s; is the machine busy?`), answerLimitMs);
      const onExit = (code) => fail(`its process ended (${code})`);
      const onMessage = ({ result, error }) => (error === undefined ? finish(() => resolve(result)) : fail(error));
      const finish = (settle) => {
        clearTimeout(timer);
        child.off('exit', onExit).off('message', onMessage);
        settle();
      };
      child.on('exit', onExit).on('message', onMessage);
      if (child.exitCode === null) child.send({ call, argument });
      else onExit(child.exitCode);
    });
  const stop = () => child.kill();
  process.once('exit', stop);
  try {
    const startMs = performance.now();
    const description = await ask('start', settings);
    console.log(`started ${description} in ${((performance.now() - startMs) / 1000).toFixed(1)} s`);
    return { side: name, description, ask, stop };
  } catch (error) {
    stop();
    throw error;
  }
}

/** Ids that no round repeats, so that a prefix cache has nothing to reuse; both contenders get the same. */
function promptOf(length, round) {
  let state = (round + 1) * 7919 + length;
  return Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return 1000 + (state % 40_000);
  });
}

/** A B A B ...: each round measures every context, and the streams, with each contender; the first round warms up and is dropped. */
async function takeTurns(contenders, { contexts, decodeTokens, streams, clock }, limitMs) {
  const samples = [];
  const startMs = performance.now();
  let roundMs = 0;
  const mayGoOn = (round) => {
    const elapsedMs = performance.now() - startMs;
    return round < 2 || (round <= leastRounds ? elapsedMs < hardLimitMs : elapsedMs + roundMs < limitMs);
  };
  for (let round = 0; mayGoOn(round); round += 1) {
    const roundStartMs = performance.now();
    const order = round % 2 === 0 ? contenders : [...contenders].reverse();
    const keep = (contender, row, value) => round > 0 && samples.push({ description: contender.description, row, value });
    for (const context of contexts)
      for (const contender of order) {
        const sample = await contender.ask('measure', { tokenIds: promptOf(context, round), decodeTokens, clock });
        keep(contender, `prefill of ${context}`, (context / sample.prefillMs) * 1000);
        keep(contender, `decode after ${context}`, sample.decodeTokensPerSecond);
      }
    const prompts = Array.from({ length: streams }, (_, stream) => promptOf(16 + stream, round));
    for (const contender of streams > 1 ? order : [])
      keep(contender, streamsRow(streams), await contender.ask('measureStreams', { prompts, decodeTokens, clock }));
    roundMs = performance.now() - roundStartMs;
    process.stdout.write(round === 0 ? `warm-up ${(roundMs / 1000).toFixed(1)} s; rounds:` : ` ${(roundMs / 1000).toFixed(1)} s`);
  }
  console.log();
  return samples;
}

const streamsRow = (streams) => `${streams} streams at once`;

function spreadOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, least: sorted[0], most: sorted.at(-1), count: sorted.length };
}

const rounded = (value) => (value < 100 ? value.toFixed(1) : value.toFixed(0));

/** A table: tokens per second of each side's best as median (least-most), and the ratio of the two by round; then the most memory that each side held. */
function report(contenders, samples, model, { contexts, streams, clock }, peaks) {
  const sides = [...new Set(contenders.map(({ side }) => side))];
  const ofSide = (side) => contenders.filter((contender) => contender.side === side);
  const names = [
    ...contexts.map((context) => `prefill of ${context}`),
    ...contexts.map((context) => `decode after ${context}`),
    ...(streams > 1 ? [streamsRow(streams)] : []),
  ];
  const rows = names.map((row) => {
    const best = sides.map((side) =>
      ofSide(side)
        .map(({ description }) => ({ description, values: valuesOf(samples, description, row) }))
        .reduce((a, b) => (spreadOf(b.values).median > spreadOf(a.values).median ? b : a)),
    );
    const cells = best.map(({ description, values }) => `${spreadText(values, rounded)}, ${description}`);
    const ratios = best[0].values.map((value, round) => value / best.at(-1).values[round]);
    return `| ${[row, ...cells, ...(best.length === 2 ? [spreadText(ratios, (ratio) => ratio.toFixed(2))] : [])].join(' | ')} |`;
  });
  const memory = sides.map((side) => {
    const all = ofSide(side).map((contender) => peaks[contenders.indexOf(contender)]);
    return `${Math.min(...all).toFixed(0)}-${Math.max(...all).toFixed(0)} MiB`;
  });
  const unit = clock === 'cpu' ? 'tokens per second of the processor' : 'tokens/s';
  const head = [
    `${unit}, median (least-most)`,
    ...sides.map((side) => `best of ${side}`),
    ...(sides.length === 2 ? ['ratio by round'] : []),
  ];
  const rounds = valuesOf(samples, contenders[0].description, names[0]).length;
  return [
    `${model}; ${rounds} rounds, taking turns: ${contenders.map(({ description }) => description).join('; ')}`,
    '',
    `| ${head.join(' | ')} |`,
    `|${'---|'.repeat(head.length)}`,
    ...rows,
    `| ${['peak memory', ...memory, ...(sides.length === 2 ? [''] : [])].join(' | ')} |`,
  ];
}

const valuesOf = (samples, description, row) =>
  samples.filter((sample) => sample.description === description && sample.row === row).map(({ value }) => value);

function spreadText(values, format) {
  const { median, least, most } = spreadOf(values);
  return `${format(median)} (${format(least)}-${format(most)})`;
}
