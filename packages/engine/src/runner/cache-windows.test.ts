import { Attention } from '@graft/core-model';
import { type CacheMove, Module } from '@graft/graph';
import { afterEach, describe, expect, test } from 'vitest';
import { generateIds, promptOf, request, startTiny, type TinyOptions } from '../engine.fixture.ts';
import { watch } from '../interpreter-plugin.fixture.ts';
import { KvCachePlan } from '../kv-cache.ts';
import type { GenerateRequest } from '../request.ts';
import { device, staticPlugin } from '../static-plugin.fixture.ts';
import { windowPlugin } from '../window-plugin.fixture.ts';
import { CacheWindows } from './cache-windows.ts';

afterEach(() => {
  watch.reset();
  device.reset();
});

const start = (more: TinyOptions) =>
  startTiny({ name: 'llama-rope3', ...more }, { pluginsInCode: [windowPlugin(more.platform ?? 'interpreter')] });

/** Shorter than the window, longer than several chunks, and between; some are decoded over the ends of chunks. */
const asked = [3, 40, 14, 1, 25, 9].map((length, i) => request(promptOf(length, i), { maxTokens: 5 + ((i * 7) % 16) }));

async function idsAlone(requests: readonly GenerateRequest[]): Promise<number[][]> {
  const engine = await start({ prefillTokens: 64 }); // chunks so long that caches hold whole sequences
  const ids: number[][] = [];
  for (const one of requests) ids.push(await generateIds(engine, one));
  expect(watch.moves).toEqual([]);
  expect(watch.steps.every(({ inputs }) => 'full.queryStart' in inputs)).toBe(true);
  watch.reset();
  return ids;
}

class Layers extends Module {
  readonly near = new Attention({ numHeads: 2, numKvHeads: 1, headDim: 4, scale: 1, window: 6 });
  readonly far = new Attention({ numHeads: 2, numKvHeads: 1, headDim: 4, scale: 1 });
}

test('a group has the rows of its window and of a chunk, or all of them where that is less or rows cannot be moved', () => {
  const whole = { name: 'full', chunkSize: null, keptRows: 0, rows: 40 };
  const window = { name: 'sliding-window-6', chunkSize: 4, keptRows: 5, rows: 9 };
  const plan = new KvCachePlan(new Layers(), 40, { windowChunk: 4 });
  expect(plan.groups).toEqual([window, whole]);
  expect(plan.cachesOf(plan.groups[0]!)).toEqual(['near.keyCache', 'near.valueCache']);
  expect([0, 3, 4, 9].map((computed) => plan.roomAfter(computed))).toEqual([4, 1, 4, 3]);
  expect(new KvCachePlan(new Layers(), 40, { windowChunk: 4, paddingRows: 3 }).groups.map(({ rows }) => rows)).toEqual([12, 43]);
  expect(new KvCachePlan(new Layers(), 40).groups).toEqual([whole]);
  expect(new KvCachePlan(new Layers(), 40, { windowChunk: 35 }).groups).toEqual([whole]);
});

test('rows move once at the start of a chunk, in the slot alone whose sequence begins one', () => {
  const windows = new CacheWindows(new KvCachePlan(new Layers(), 40, { windowChunk: 4 }));
  const movesBefore = (firstSlot: number, ...computed: number[]): string[] => {
    const moves: CacheMove[] = [];
    const program = { moveCacheRows: (given: readonly CacheMove[]) => void moves.push(...given) };
    windows.advance(
      program,
      firstSlot,
      computed.map((each) => ({ computed: each })),
    );
    return moves.filter(({ path }) => path === 'near.keyCache').map(({ slot, from, count }) => `${slot}: ${from} + ${count}`);
  };
  expect(movesBefore(1, 0)).toEqual([]);
  expect(movesBefore(1, 4)).toEqual([]); // the window still begins at the first row
  expect(movesBefore(1, 8)).toEqual(['1: 3 + 5']);
  expect(movesBefore(1, 8)).toEqual([]); // the run is repeated
  expect(movesBefore(0, 0)).toEqual([]);
  expect(movesBefore(0, 7, 12)).toEqual(['1: 4 + 5']);
  expect(movesBefore(0, 8, 13)).toEqual(['0: 3 + 5']);
  expect(movesBefore(1, 0)).toEqual([]); // another sequence
  expect(movesBefore(1, 8)).toEqual(['1: 3 + 5']);
});

describe('a cache that holds a window gives the ids of one that holds all', () => {
  test.each([1, 3, 8])(
    'in chunks of %i tokens at least, several sequences at a time, in slots that are used again',
    async (prefillTokens) => {
      const expected = await idsAlone(asked);
      const engine = await start({ prefillTokens, maxSequences: 2 });
      expect(await Promise.all(asked.map((one) => generateIds(engine, one)))).toEqual(expected);
      expect(watch.moves.length).toBeGreaterThan(0);
      const chunk = Math.max(prefillTokens, 2); // a quarter of the window, at least
      for (const { inputs } of watch.steps) expect(inputs['sliding-window-6.totalLength']!.data[0]).toBeLessThanOrEqual(5 + chunk);
    },
  );

  test('in static buckets, with padding', async () => {
    const expected = await idsAlone(asked);
    const buckets = [
      ...[4, 12].flatMap((query) => [0, 64].map((context) => ({ batch: 1, query, context }))),
      ...[1, 2, 4].map((batch) => ({ batch, query: 1, context: 64 })),
    ];
    const more = { plugins: [staticPlugin], platform: 'static', maxSequences: 4, platformOptions: { buckets } };
    const engine = await start({ ...more, prefillTokens: 8 });
    expect(await Promise.all(asked.map((one) => generateIds(engine, one)))).toEqual(expected);
    expect(device.runs.some(({ step }) => 'sliding-window-6.queryStart' in step.inputs)).toBe(true);
  });

  test('when a run fails and its sequence is not the only one', async () => {
    const [expected] = await idsAlone([asked[1]!]);
    const engine = await start({ prefillTokens: 4 });
    watch.beforeRun = ({ inputs }) => {
      if (inputs['positions']!.data[0] !== 8n) return;
      watch.beforeRun = null;
      throw new Error('once');
    };
    await expect(generateIds(engine, asked[1]!)).rejects.toThrow('once');
    expect(await generateIds(engine, asked[1]!)).toEqual(expected);
  });
});
