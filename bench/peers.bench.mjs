// Prefill and decode of the engine against node-llama-cpp on the same GGUF, in one run, taking turns: what slows one round slows both. Each side runs with each
// number of threads, the peer with flash attention and without; a row compares each side's best.
//   npm run bench -- peers [--model FILE.gguf] [--threads 1,2] [--contexts 16,512] [--decode 32] [--seconds 150] [--only graft|llama-cpp]
import { execFileSync, fork } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cacheFolder, defaultModel } from './default-model.mjs';

const peerVersion = '3.22.1';
const here = dirname(fileURLToPath(import.meta.url));
const leastRounds = 3;
const hardLimitMs = 200_000; // no further round after this, even if there were fewer than the least
const answerLimitMs = 90_000; // one measurement takes seconds; a machine on which it takes this long tells nothing

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: 'string' },
      threads: { type: 'string', default: '1,2' },
      contexts: { type: 'string', default: '16,512' },
      decode: { type: 'string', default: '32' },
      seconds: { type: 'string', default: '150' },
      only: { type: 'string' },
    },
  });
  const model = values.model ?? defaultModel();
  const contexts = values.contexts.split(',').map(Number);
  const decodeTokens = Number(values.decode);
  const settings = {
    model,
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
    const samples = await takeTurns(contenders, contexts, decodeTokens, Number(values.seconds) * 1000);
    return report(contenders, samples, model);
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

/** A B A B ...: each round measures every context with each contender; the first round warms up and is dropped. */
async function takeTurns(contenders, contexts, decodeTokens, limitMs) {
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
    for (const context of contexts) {
      for (const { side, description, ask } of order) {
        const sample = await ask('measure', { tokenIds: promptOf(context, round), decodeTokens });
        if (round > 0)
          samples.push({ side, description, context, prefill: (context / sample.prefillMs) * 1000, decode: sample.decodeTokensPerSecond });
      }
    }
    roundMs = performance.now() - roundStartMs;
    process.stdout.write(round === 0 ? `warm-up ${(roundMs / 1000).toFixed(1)} s; rounds:` : ` ${(roundMs / 1000).toFixed(1)} s`);
  }
  console.log();
  return samples;
}

function spreadOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, least: sorted[0], most: sorted.at(-1), count: sorted.length };
}

const rounded = (value) => (value < 100 ? value.toFixed(1) : value.toFixed(0));

/** A table: a row for each phase and context; tokens per second of each side's best as median (least-most), and the ratio of the two by round. */
function report(contenders, samples, model) {
  const contexts = [...new Set(samples.map(({ context }) => context))];
  const sides = [...new Set(contenders.map(({ side }) => side))];
  const rows = ['prefill', 'decode'].flatMap((phase) =>
    contexts.map((context) => {
      const best = sides.map((side) =>
        contenders
          .filter((contender) => contender.side === side)
          .map(({ description }) => ({ description, values: valuesOf(samples, { description, context, phase }) }))
          .reduce((a, b) => (spreadOf(b.values).median > spreadOf(a.values).median ? b : a)),
      );
      const cells = best.map(({ description, values }) => `${spreadText(values, rounded)}, ${description}`);
      if (best.length === 2)
        cells.push(
          spreadText(
            best[0].values.map((value, round) => value / best[1].values[round]),
            (ratio) => ratio.toFixed(2),
          ),
        );
      return `| ${phase === 'prefill' ? `prefill of ${context}` : `decode after ${context}`} | ${cells.join(' | ')} |`;
    }),
  );
  const head = [
    'tokens/s, median (least-most)',
    ...sides.map((side) => `best of ${side}`),
    ...(sides.length === 2 ? ['ratio by round'] : []),
  ];
  const rounds = samples.length / contenders.length / contexts.length;
  return [
    `${model}; ${rounds} rounds, taking turns: ${contenders.map(({ description }) => description).join('; ')}`,
    '',
    `| ${head.join(' | ')} |`,
    `|${'---|'.repeat(head.length)}`,
    ...rows,
  ];
}

const valuesOf = (samples, { description, context, phase }) =>
  samples.filter((sample) => sample.description === description && sample.context === context).map((sample) => sample[phase]);

function spreadText(values, format) {
  const { median, least, most } = spreadOf(values);
  return `${format(median)} (${format(least)}-${format(most)})`;
}
