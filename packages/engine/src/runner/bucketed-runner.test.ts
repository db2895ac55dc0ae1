import { EventBus } from '@graft/common';
import { afterEach, describe, expect, test } from 'vitest';
import { failureOf, generateIds, promptOf, request, startTiny, type TinyOptions, tinyConfig } from '../engine.fixture.ts';
import type { EngineEvents, Recompile } from '../engine.ts';
import { LlmEngine } from '../llm-engine.ts';
import type { StartOptions } from '../start-engine.ts';
import { device, staticPlugin } from '../static-plugin.fixture.ts';
import type { Bucket } from './buckets.ts';

afterEach(() => device.reset());

/** Buckets of 1 and 2 and 4 sequences, and of 4 and 12 tokens of a prompt. */
const buckets: Bucket[] = [
  ...[4, 12].flatMap((query) => [0, 64].map((context) => ({ batch: 1, query, context }))),
  ...[1, 2, 4].map((batch) => ({ batch, query: 1, context: 64 })),
];

interface StaticTiny extends TinyOptions {
  policy?: { buckets: Bucket[]; warmUp?: Bucket[] };
}

function staticConfig({ policy = { buckets }, ...more }: StaticTiny = {}) {
  return tinyConfig({ plugins: [staticPlugin], platform: 'static', maxSequences: 4, platformOptions: { ...policy }, ...more });
}

const startStatic = ({ policy = { buckets }, ...more }: StaticTiny = {}, options: StartOptions = {}): Promise<LlmEngine> =>
  startTiny({ plugins: [staticPlugin], platform: 'static', maxSequences: 4, platformOptions: { ...policy }, ...more }, options);

/** Prompts that cross a chunk of 16 tokens, do not fill a bucket, and end at different times. */
const asked = [3, 30, 14, 1, 21, 17].map((length, i) => request(promptOf(length, i), { maxTokens: 3 + ((i * 5) % 9) }));

describe.each(['scout-tiny', 'maverick-tiny'])('%s in static buckets', (name) => {
  test('gives the same ids as a runner for any shape, with four sequences at a time', async () => {
    const anyShape = await startTiny({ name, maxSequences: 4 });
    const expected = await Promise.all(asked.map((one) => generateIds(anyShape, one)));
    const engine = await startStatic({ name });
    const before = await engine.stats();
    expect(await Promise.all(asked.map((one) => generateIds(engine, one)))).toEqual(expected);
    const after = await engine.stats();
    expect(after).toMatchObject({ captures: before.captures, compiles: before.compiles, recompiles: 0 });
    expect(after.paddedTokens).toBeGreaterThan(0);
    expect(after.computedTokens).toBeGreaterThan(100);
  });
});

describe('a warm-up', () => {
  test('runs every graph once and one of a prompt twice, and sums up', async () => {
    const engine = await startStatic();
    expect(device.added).toEqual(['1x4', '1x12', '1x1', '2x1', '4x1']);
    expect(device.runs.map(({ bucket }) => bucket)).toEqual(['1x4', '1x4', '1x12', '1x1', '2x1', '4x1']);
    const { warmUp } = engine.info;
    const stats = await engine.stats();
    expect(warmUp).toMatchObject({
      captured: stats.captures,
      optimised: stats.optimisations,
      fromRecipes: 0,
      seconds: stats.warmUpSeconds,
    });
    expect(warmUp!.rows).toMatchObject([
      { kind: 'prompt', buckets: 4, graphs: 2, padding: 7 / 12 },
      { kind: 'decode', buckets: 3, graphs: 3, padding: 1 / 4 },
    ]);
    expect(Object.keys(engine.info.timings).slice(-4)).toEqual(['open', 'capture', 'compile', 'warmUp']);
    expect(stats).toMatchObject({ computedTokens: 0, paddedTokens: 0 });
  });

  test('refuses a bucket whose logits are not numbers', async () => {
    device.afterRun = (bucket, { logits }) => void (bucket === '2x1' && ((logits!.data as Float32Array)[7] = Number.NaN));
    const error = await failureOf(LlmEngine.start(staticConfig()));
    expect([error.code, error.message]).toEqual(['GRAFT_WARM_UP', expect.stringMatching(/NaN as value 7 [\s\S]*"2x1"/)]);
    expect(device.alive).toBe(0);
  });

  test('refuses a bucket whose second run gives different logits', async () => {
    let runs = 0;
    device.afterRun = (_, { logits }) => void ((logits!.data as Float32Array)[0] = runs++);
    expect((await failureOf(LlmEngine.start(staticConfig()))).message).toMatch(/Value 0 was 0 in the first run and 1 /);
  });

  test.each(['open', 'capture', 'compile', 'warm-up'])('aborted at "%s" ends in the reason and frees the program', async (at) => {
    const controller = new AbortController();
    const onProgress = ({ step, fraction }: { step: string; fraction: number | null }) =>
      step === at && fraction !== null && fraction > 0 && controller.abort(new Error('never mind'));
    await expect(LlmEngine.start(staticConfig(), { onProgress, signal: controller.signal })).rejects.toThrow('never mind');
    expect(device.alive).toBe(0);
    expect(device.runs.length).toBeLessThan(3);
  });

  test('that is turned off makes each bucket when it is needed, and counts no recompile', async () => {
    const engine = await startStatic({ warmUp: false, onRecompile: 'fail' });
    expect([device.added, engine.info.warmUp]).toEqual([[], null]);
    await generateIds(engine, request(promptOf(5), { maxTokens: 3 }));
    expect(device.added).toEqual(['1x12', '1x1']);
    expect(await engine.stats()).toMatchObject({ recompiles: 0 });
  });
});

describe('a bucket that the warm-up left out', () => {
  const policy = { buckets, warmUp: buckets.filter(({ query }) => query !== 12) };
  const long = request(promptOf(10), { maxTokens: 3 });

  test('fails the request that needs it, by name, and no other, with onRecompile "fail"', async () => {
    const engine = await startStatic({ policy, onRecompile: 'fail', prefillTokens: 12 });
    const [error, ids] = await Promise.all([failureOf(generateIds(engine, long)), generateIds(engine, request(promptOf(3)))]);
    expect([error.code, error.message]).toEqual(['GRAFT_RECOMPILE_REFUSED', expect.stringContaining('"1x12"')]);
    expect(ids).toHaveLength(6);
    expect(await engine.stats()).toMatchObject({ recompiles: 0 });
  });

  test('is made once and counted with "allow"', async () => {
    const engine = await startStatic({ policy, onRecompile: 'allow', prefillTokens: 12 });
    const expected = await generateIds(await startTiny(), long);
    expect([await generateIds(engine, long), await generateIds(engine, long)]).toEqual([expected, expected]);
    expect(await engine.stats()).toMatchObject({ recompiles: 1 });
  });
});

test('a bucket that the warm-up left out is reported by default, with what differs and how long requests waited', async () => {
  const policy = { buckets, warmUp: buckets.filter(({ query }) => query !== 12) };
  const events = new EventBus<EngineEvents>();
  const reported: Recompile[] = [];
  events.on('graph:recompile', (recompile) => reported.push(recompile));
  const engine = await startStatic({ policy, prefillTokens: 12 }, { events });
  await generateIds(engine, request(promptOf(10), { maxTokens: 1 }));
  const bucket = { guard: 'bucket', expected: 'a bucket that the warm-up made', actual: '1x12' };
  expect(reported).toMatchObject([
    { region: 'bucket', path: '1x12', failures: expect.arrayContaining([bucket]), stallMs: expect.any(Number) },
  ]);
  expect(reported[0]!.stallMs).toBeGreaterThanOrEqual(0);
  expect(await engine.stats()).toMatchObject({ recompiles: 1, recentRecompiles: reported });
});

test('a policy that cannot serve the longest sequence is refused, and the missing bucket is named', async () => {
  const error = await failureOf(LlmEngine.start(staticConfig({ policy: { buckets: [{ batch: 1, query: 1, context: 62 }] } })));
  expect([error.code, error.message]).toEqual(['GRAFT_ENGINE_CONFIG', expect.stringContaining('query 1 and a context of 63')]);
});

test('a piece that no bucket of its context holds is computed in parts', async () => {
  const policy = {
    buckets: [...buckets.filter(({ query }) => query === 1), { batch: 1, query: 12, context: 0 }, { batch: 1, query: 4, context: 20 }],
  };
  const asked = request(promptOf(40), { maxTokens: 4 });
  const expected = await generateIds(await startTiny(), asked);
  const engine = await startStatic({ policy, prefillTokens: 12 });
  device.reset();
  expect(await generateIds(engine, asked)).toEqual(expected);
  const ran = device.runs.map(({ bucket }) => bucket);
  expect(ran.slice(0, 5)).toEqual(['1x12', '1x4', '1x4', '1x4', '1x1']);
});

test('the logits of every token of a prompt and the residual streams equal those of a runner for any shape', async () => {
  const seen = async (engine: LlmEngine) => {
    const logits: [number, number[]][] = [];
    const states: [number, number, number[][]][] = [];
    const observer = {
      promptLogits: true,
      onLogits: (position: number, row: Float32Array) => void logits.push([position, [...row]]),
      onAuxHiddenStates: (start: number, count: number, layers: readonly Float32Array[]) =>
        void states.push([start, count, layers.map((layer) => [...layer])]),
    };
    await generateIds(engine, request(promptOf(10), { maxTokens: 3 }), { observer });
    const rows = (layer: number) => states.flatMap(([, , layers]) => layers[layer]!);
    return { logits, positions: states.map(([start, count]) => [start, count]), rows: [rows(0), rows(1)] };
  };
  const name = 'scout-tiny';
  const options = { name, auxHiddenStateLayers: [1, 8] };
  expect(await seen(await startStatic(options))).toEqual(await seen(await startTiny(options)));
});
