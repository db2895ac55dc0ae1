/**
 * Random requests on a platform of static shapes, 4 at a time, after a warm-up: nothing may be captured or compiled for them. On the emulated Gaudi each must
 * get the ids that it gets alone; a GPU rounds otherwise in another batch. Many requests are the same ones in other company, so that each has to run alone once.
 *   npm run soak -- [--requests 10000] [--seconds 120] [--seed 1] [--mode compile] [--platform hpu | vulkan | cuda | metal]
 * Bounded: where the time is over before the requests are, it says how many ran, and fails. A line a model; exit code 1 when one failed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LlmEngine } from '@graft/engine';
import { random, randomRequests, runAll } from './random-requests.ts';

const { values } = parseArgs({
  options: {
    requests: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '120' },
    seed: { type: 'string', default: '1' },
    mode: { type: 'string', default: 'compile' },
    platform: { type: 'string', default: 'hpu' },
  },
});
const isGpu = values.platform !== 'hpu';
const models = ['scout-tiny', 'maverick-tiny'];
const distinct = 100;
const requestsEach = Math.ceil(Number(values.requests) / models.length);
const start = performance.now();

const until = start + Number(values.seconds) * 1000;
const reports: Awaited<ReturnType<typeof soak>>[] = [];
if (isGpu) for (const model of models) reports.push(await soak(model, until));
else reports.push(...(await Promise.all(models.map((model) => soak(model, until))))); // two cores, one each
for (const { ok, line } of reports) console.log(`${ok ? 'ok  ' : 'FAIL'} ${line}`);
const failed = reports.filter(({ ok }) => !ok).length;
console.log(`seed ${values.seed}, ${((performance.now() - start) / 1000).toFixed(1)} s`);
console.log(`${models.length - failed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

async function soak(name: string, until: number): Promise<{ ok: boolean; line: string }> {
  const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-soak-'));
  const maxModelLength = 36; // two chunks of these models, and some of a third
  const engine = await LlmEngine.start({
    model: fileURLToPath(new URL(`../parity/cases/${name}`, import.meta.url)),
    plugins: isGpu ? ['@graft/gpu', '@graft/llama4-hpu/gpu'] : ['@graft/llama4-hpu'],
    app: fileURLToPath(new URL('../../', import.meta.url)),
    platform: values.platform,
    mode: values.mode,
    maxSequences: 4,
    maxModelLength,
    prefillTokens: 16,
    platformOptions: isGpu ? {} : { promptQuery: { min: 8, step: 8 } },
    threads: 1, // of these sizes a second one costs more than it gives
    cacheDirectory,
  });
  try {
    const next = random(Number(values.seed));
    const pool = randomRequests(next, distinct, maxModelLength);
    const order = Array.from({ length: requestsEach }, () => next(distinct));
    const before = await engine.stats();
    const alone = await runAll(engine, pool, { atOnce: 1, until });
    const results = await runAll(
      engine,
      order.map((place) => pool[place]!),
      { atOnce: 4, until },
    );
    const after = await engine.stats();
    const different = results.filter((ids, i) => ids.join() !== alone[order[i]!]?.join()).length;
    const made = { captures: after.captures - before.captures, compiles: after.compiles - before.compiles };
    const ok = results.length === requestsEach && (isGpu || different === 0) && made.captures + made.compiles + after.recompiles === 0;
    const line =
      `${name}: ${results.length} of ${requestsEach} requests, ${different} with other ids than alone, ${made.captures} captures, ` +
      `${made.compiles} compiles, ${after.recompiles} recompiles; ${before.compiles} graphs, ` +
      `${((100 * after.paddedTokens) / (after.paddedTokens + after.computedTokens)).toFixed(0)} % padding`;
    return { ok, line };
  } finally {
    await engine.close();
    rmSync(cacheDirectory, { recursive: true });
  }
}
