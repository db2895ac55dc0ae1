import { afterEach, expect, test } from 'vitest';
import { caseFolder, generateIds, promptOf, request, startTiny } from '../engine.fixture.ts';
import type { LoadProgress } from '../engine.ts';
import type { LlmEngine } from '../llm-engine.ts';
import { damagedWeights, otherWeights } from '../other-weights.fixture.ts';
import { device, staticPlugin } from '../static-plugin.fixture.ts';

afterEach(() => device.reset());

const buckets = [8, 1].map((query) => ({ batch: 1, query, context: 64 }));
const asked = request(promptOf(5), { maxTokens: 8 });

const startStatic = (): Promise<LlmEngine> => startTiny({ plugins: [staticPlugin], platform: 'static', platformOptions: { buckets } });
const freshIds = async (model: string): Promise<number[]> => generateIds(await startTiny({ model }), asked);

test('weights are exchanged in the program that serves, with nothing captured or compiled', async () => {
  const other = otherWeights();
  const engine = await startStatic();
  const [before, alive] = [await engine.stats(), device.alive];
  const old = await generateIds(engine, asked);
  const steps: LoadProgress['step'][] = [];
  const report = await engine.reloadWeights(other, { onProgress: ({ step }) => steps.push(step) });
  expect([[...new Set(steps)], Object.keys(report.timings)]).toEqual([
    ['load', 'drain'],
    ['load', 'postLoad', 'drain'],
  ]);
  const fresh = await generateIds(engine, asked);
  expect(fresh).toEqual(await freshIds(other));
  expect(fresh).not.toEqual(old);
  const { captures, compiles } = before;
  expect([await engine.stats(), device.alive]).toMatchObject([{ captures, compiles, recompiles: 0 }, alive]);
  await engine.reloadWeights(caseFolder('dense-tiny'));
  expect(await generateIds(engine, asked)).toEqual(old);
});

test('an update that fails half-way, and an abort while sequences end, leave the old weights serving', async () => {
  const other = otherWeights();
  const engine = await startStatic();
  const old = await generateIds(engine, asked);
  let updates = 0;
  device.afterUpdate = () => {
    if (updates++ === 0) throw new Error('half-way');
  };
  await expect(engine.reloadWeights(other)).rejects.toThrow('half-way');
  expect([updates, await generateIds(engine, asked)]).toEqual([2, old]);
  const controller = new AbortController();
  const onProgress = ({ step }: LoadProgress) => step === 'drain' && controller.abort(new Error('never mind'));
  await expect(engine.reloadWeights(other, { signal: controller.signal, onProgress })).rejects.toThrow('never mind');
  expect([updates, await generateIds(engine, asked)]).toEqual([2, old]);
  await engine.reloadWeights(other);
  expect(await generateIds(engine, asked)).toEqual(await freshIds(other));
});

test('weights whose results are not finite are refused, and the old ones serve', async () => {
  const engine = await startStatic();
  const old = await generateIds(engine, asked);
  const before = await engine.stats();
  await expect(engine.reloadWeights(damagedWeights())).rejects.toMatchObject({ code: 'GRAFT_WARM_UP', where: 'bucket "1x8"' });
  expect(await engine.stats()).toEqual(before); // what was tried is no sequence's
  expect(await generateIds(engine, asked)).toEqual(old);
});
