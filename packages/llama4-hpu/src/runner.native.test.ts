import { rmSync } from 'node:fs';
import { type LlmEngine, type LoadProgress, Lowerings } from '@graft/engine';
import { ops } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import { describe, expect, onTestFinished, test } from 'vitest';
import { withOtherWeights } from '../../../tests/fixtures/other-weights.ts';
import { idsOf, random, randomRequests, runAll } from '../../../tests/soak/random-requests.ts';
import { runners } from './recorded-hpu.fixture.ts';
import { hpuPlugin, startHpu, temporaryFolder } from './run-hpu.fixture.ts';
import { caseFolder, expectAlike, runVariants, textCases } from './run-variants.fixture.ts';

const emulated = new URL('./emulated-hpu.fixture.ts', import.meta.url).href;

test.each(textCases)(
  'on the emulated device, %s: upstream, upstream-equivalent and default give equal logits, residual streams and greedy ids, token by token and in buckets',
  async (name) => expectAlike(await runVariants(name, emulated, { alsoLast: true })),
);

const counts = async (engine: LlmEngine) => {
  const { captures, compiles, optimisations, recompiles } = await engine.stats();
  return { captures, compiles, optimisations, recompiles };
};

test.each(['scout-tiny', 'maverick-tiny'])(
  'on %s 500 random requests, 4 at a time, capture and compile nothing after the warm-up, and each gets the ids that it gets alone',
  async (name) => {
    const sizes = { maxModelLength: 36, prefillTokens: 16, platformOptions: { promptQuery: { min: 4, step: 4 } } };
    const engine = await startHpu(name, { onRecompile: 'fail', ...sizes });
    const before = await counts(engine);
    expect(before.compiles).toBeGreaterThan(0);
    expect(before.recompiles).toBe(0);
    const next = random(name.length);
    const pool = randomRequests(next, 100, sizes.maxModelLength);
    const order = Array.from({ length: 500 }, () => next(pool.length));
    const alone = await runAll(engine, pool, { atOnce: 1 });
    const together = await runAll(
      engine,
      order.map((place) => pool[place]!),
      { atOnce: 4 },
    );
    expect(together).toEqual(order.map((place) => alone[place]));
    expect(await counts(engine)).toEqual(before);
    const { computedTokens, paddedTokens } = await engine.stats();
    expect(pool.some(({ tokenIds, maxTokens }) => tokenIds.length + maxTokens > 33)).toBe(true); // over two boundaries of a chunk
    expect(computedTokens).toBeGreaterThan(0);
    expect(paddedTokens).toBeGreaterThan(0);
  },
);

const recording = new URL('./recorded-hpu.fixture.ts', import.meta.url).href;
const two = randomRequests(random(1), 2, 40).map((request) => ({ ...request, maxTokens: 4 }));

/** Short prompts and longer answers, which are decoded together. */
const together = two.map(({ tokenIds }) => ({ tokenIds: tokenIds.slice(0, 3), maxTokens: 12 }));

describe('a bucket that was left out of the warm-up', () => {
  test('fails the request with an error that names it, and the engine goes on', async () => {
    const engine = await startHpu('scout-tiny', { plugins: [recording], onRecompile: 'fail' });
    const [alone] = await runAll(engine, together.slice(0, 1), { atOnce: 1 });
    const outcomes = await Promise.allSettled(together.map((request) => idsOf(engine, request)));
    const reasons = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as unknown] : []));
    expect(reasons.length).toBeGreaterThan(0);
    for (const reason of reasons)
      expect(reason).toMatchObject({ code: 'GRAFT_RECOMPILE_REFUSED', what: expect.stringContaining('Bucket "2x1" has no graph') });
    expect((await engine.stats()).recompiles).toBe(0);
    expect(await idsOf(engine, together[0]!)).toEqual(alone);
  });

  test('is made with `allow`, once, and counted', async () => {
    const engine = await startHpu('scout-tiny', { plugins: [recording], onRecompile: 'allow' });
    const alone = await runAll(engine, together, { atOnce: 1 });
    const before = await counts(engine);
    expect(await runAll(engine, together, { atOnce: 2 })).toEqual(alone);
    expect(await runAll(engine, together, { atOnce: 2 })).toEqual(alone);
    const after = await counts(engine);
    expect(after.recompiles).toBe(1);
    expect(after.compiles).toBeGreaterThan(before.compiles);
  });
});

test('without a warm-up each bucket is made when it is needed, and none counts as a recompile', async () => {
  const engine = await startHpu('scout-tiny', { warmUp: false, onRecompile: 'fail' });
  expect(await counts(engine)).toEqual({ captures: 0, compiles: 0, optimisations: 0, recompiles: 0 });
  expect(engine.info.warmUp).toBeNull();
  expect(await idsOf(engine, two[0]!)).toHaveLength(4);
  expect(await counts(engine)).toMatchObject({ recompiles: 0, captures: expect.toSatisfy((count: number) => count > 0) });
});

test.each(['compile', 'lazy'])(
  'in mode %s a second start takes its graphs from recipes: 0 captures, 0 optimisations, the same ids',
  async (mode) => {
    const cacheDirectory = temporaryFolder();
    const start = () => startHpu('maverick-tiny', { mode, cacheDirectory });
    const first = await start();
    const second = await start();
    const [before, after] = [await counts(first), await counts(second)];
    expect(before.captures).toBeGreaterThan(0);
    expect(before.optimisations).toBeGreaterThan(0);
    expect(after).toEqual({ ...before, captures: 0, optimisations: 0 });
    expect(await runAll(second, two, { atOnce: 2 })).toEqual(await runAll(first, two, { atOnce: 2 }));
    expect(await counts(second)).toEqual(after);
  },
);

test('the modes give equal ids; a step is one graph a bucket in lazy, and eager compiles nothing and has no buckets', async () => {
  const [compile, lazy, eager] = [
    await startHpu('maverick-tiny'),
    await startHpu('maverick-tiny', { mode: 'lazy' }),
    await startHpu('maverick-tiny', { mode: 'eager', onRecompile: 'fail' }),
  ];
  const ids = await runAll(compile, two, { atOnce: 2 });
  expect(await runAll(lazy, two, { atOnce: 2 })).toEqual(ids);
  expect(await runAll(eager, two, { atOnce: 2 })).toEqual(ids);
  const { rows } = lazy.info.warmUp!;
  expect((await counts(lazy)).compiles).toBe(rows.reduce((sum, { graphs }) => sum + graphs, 0));
  expect((await counts(compile)).compiles).toBeGreaterThan((await counts(lazy)).compiles);
  expect(eager.info.warmUp).toBeNull();
  expect(await eager.stats()).toMatchObject({ paddedTokens: 0, compiles: 0, optimisations: 0, recipes: 0 });
});

test('a reload in regional mode copies into the same memory: the same runner and graphs, and the outputs of a fresh load', async () => {
  const otherModel = withOtherWeights(caseFolder('scout-tiny'));
  onTestFinished(() => rmSync(otherModel, { recursive: true }));
  const engine = await startHpu('scout-tiny', { plugins: [recording], onRecompile: 'fail' });
  const runner = runners.at(-1)!;
  const made = runners.length;
  const before = await counts(engine);
  const old = await idsOf(engine, two[0]!);
  const report = await engine.reloadWeights(otherModel);
  expect(report.hooks.map(({ hook, outcome }) => [hook, outcome])).toEqual([['HpuLlama4ForCausalLM.unifyFeedForward', 'kept']]);
  expect(runners).toHaveLength(made);
  const fresh = await startHpu('scout-tiny', { model: otherModel });
  const ids = await idsOf(engine, two[0]!);
  expect(ids).toEqual(await idsOf(fresh, two[0]!));
  expect(ids).not.toEqual(old);
  expect(await counts(engine)).toEqual(before);
  expect(runner.hasHeterogeneousLayers).toBe(true);
  await engine.reloadWeights(caseFolder('scout-tiny'));
  expect(await idsOf(engine, two[0]!)).toEqual(old);
});

test.each<[string, Record<string, unknown>, object]>([
  ['an unknown platform option', { platformOptions: { bucketting: 'linear' } }, { fix: expect.stringContaining('"bucketing"') }],
  [
    'a range beyond what is served',
    { platformOptions: { decodeBatch: { max: 99 } } },
    { what: expect.stringContaining('decodeBatch.max 99') },
  ],
  ['an unknown override option', { overrideOptions: { branchfree: true } }, { what: expect.stringContaining('"branchfree"') }],
])('%s ends the start before weights are read', async (_, config, words) => {
  const steps = new Set<string>();
  const onProgress = ({ step }: LoadProgress) => void steps.add(step);
  await expect(startHpu('scout-tiny', config, { onProgress })).rejects.toMatchObject({ code: 'GRAFT_HPU_OPTION', ...words });
  expect(steps).not.toContain('load');
});

test('the validation warm-up ends the start when padding shows in the logits, and names the bucket', async () => {
  const plugins = [hpuPlugin, new URL('./padding-hpu.fixture.ts', import.meta.url).href];
  await expect(startHpu('scout-tiny', { plugins })).rejects.toMatchObject({
    code: 'GRAFT_WARM_UP',
    what: expect.stringMatching(/^Logit \d+ of a padded prompt is .* when its tokens are computed one by one/),
    where: 'bucket "1x12"',
  });
});

test('buckets that differ in their context alone share a graph, which is warmed up once', async () => {
  const engine = await startHpu('scout-tiny', { platformOptions: { promptContext: { min: 0, step: 16 } }, onRecompile: 'fail' });
  expect(engine.info.warmUp!.rows).toMatchObject([
    { kind: 'prompt', buckets: 4, graphs: 1 }, // contexts of 0, 16, 32 and 48 rows
    { kind: 'decode', buckets: 3, graphs: 3 },
  ]);
  expect(await idsOf(engine, two[0]!)).toHaveLength(4);
});

test('the runner knows its layers', async () => {
  await startHpu('maverick-tiny', { plugins: [recording] });
  expect(runners.at(-1)).toMatchObject({
    layerKinds: ['LlamaMlp over chunked-local-16', 'Llama4Moe over chunked-local-16', 'Llama4Moe over full'],
    hasHeterogeneousLayers: true,
    hasChunkedAttention: true,
  });
});

test.each(['compile', 'lazy'])('in mode %s the lowerings of other plugins for hpu are used', async (mode) => {
  const lowering = { op: ops.siluAndMul, platform: 'hpu', lower: () => [] };
  const acme = definePlugin({ name: 'acme', bind: (bind) => bind.many(Lowerings).toConstantValue(lowering) });
  await expect(startHpu('dense-tiny', { mode }, { pluginsInCode: [acme] })).rejects.toMatchObject({
    code: 'GRAFT_OP_FAULTY',
    what: expect.stringContaining('lowering for "hpu" gave a list of 0'),
  });
});
