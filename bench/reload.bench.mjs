// Memory and time of reloading weights on the cpu: the default model and a copy whose quantised weights are moved, to and fro, in one process.
//   npm run bench -- reload [--model FILE.gguf] [--threads 2] [--context 2048] [--rounds 4]
import { closeSync, cpSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openCheckpoint } from '@graft/core-model';
import { startEngineWorker } from '@graft/engine';
import { defaultModel, readAs } from './default-model.mjs';

const app = dirname(dirname(fileURLToPath(import.meta.url)));
const sampleMs = 5;

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: 'string' },
      threads: { type: 'string', default: '2' },
      context: { type: 'string', default: '2048' },
      rounds: { type: 'string', default: '4' },
    },
  });
  const model = values.model ?? defaultModel();
  const folder = mkdtempSync(join(tmpdir(), 'graft-reload-'));
  try {
    const other = await movedCopy(model, folder);
    return await measure([model, other], { folder, ...values });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A GGUF of the same tensors in which one quantised value of each Q4_1 block is another. */
async function movedCopy(model, folder) {
  const copy = join(folder, `moved-${basename(model)}`);
  cpSync(model, copy);
  const checkpoint = await openCheckpoint(model);
  const file = openSync(copy, 'r+');
  try {
    for (const { dtype, file: source, offset, byteLength } of checkpoint.tensors.values()) {
      if (dtype !== 'Q4_1') continue;
      const bytes = source.read(offset, byteLength); // blocks of 20 bytes: scale, offset, 32 values of 4 bits
      for (let block = 0; block < byteLength; block += 20) bytes[block + 4 + ((block / 20) % 16)] ^= 1;
      writeSync(file, bytes, 0, byteLength, offset);
    }
  } finally {
    closeSync(file);
    checkpoint[Symbol.dispose]();
  }
  return copy;
}

async function measure([model, other], { folder, threads, context, rounds }) {
  const engine = await startEngineWorker({
    model,
    ...readAs(model),
    app,
    plugins: ['@graft/cpu'],
    platform: 'cpu',
    threads: Number(threads),
    maxModelLength: Number(context),
    cacheDirectory: join(folder, 'weights'),
  });
  try {
    await answer(engine);
    const rows = [];
    for (let round = 0; round < Number(rounds); round += 1) rows.push(await reload(engine, round % 2 === 0 ? other : model, round));
    const { weights, maxSequences, maxModelLength } = engine.info;
    return [
      `${model}, weights ${weights}; ${threads} threads, ${maxSequences} sequences of ${maxModelLength} tokens; one stream runs meanwhile`,
      `resident memory of the whole process (mapped files included), in MiB, sampled every ${sampleMs} ms`,
      '',
      '| reload | weights | before | peak | over before | after | staging, s | compiling, s | draining, s | longest gap of the stream, ms |',
      '|---|---|---|---|---|---|---|---|---|---|',
      ...rows,
    ];
  } finally {
    await engine.close();
  }
}

async function reload(engine, checkpoint, round) {
  const stream = answer(engine, 300); // still runs when the new program is ready, so that there is something to drain
  await new Promise((resolve) => setTimeout(resolve, 300));
  const before = process.memoryUsage.rss();
  let peak = before;
  const sampling = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), sampleMs);
  const { fromCache, timings } = await engine.reloadWeights(checkpoint);
  clearInterval(sampling);
  const gapMs = await stream;
  await answer(engine);
  const after = process.memoryUsage.rss();
  const memory = [before, peak, peak - before, after].map((bytes) => Math.round(bytes / 2 ** 20));
  const seconds = [timings.load, timings.compile, timings.drain].map((time) => time.toFixed(1));
  return `| ${[round + 1, fromCache ? 'converted before' : 'converted now', ...memory, ...seconds, gapMs.toFixed(0)].join(' | ')} |`;
}

/** Tokens of one greedy answer; gives the longest time between two of them. */
async function answer(engine, maxTokens = 16) {
  const request = { prompt: { tokenIds: [1, 2, 3, 4, 5] }, sampling: { temperature: 0, ignoreEos: true, maxTokens } };
  let last = 0;
  let longest = 0;
  for await (const _ of engine.generate(request)) {
    const now = performance.now();
    if (last > 0) longest = Math.max(longest, now - last);
    last = now;
  }
  return longest;
}
