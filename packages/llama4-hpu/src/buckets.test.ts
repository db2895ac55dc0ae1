import { type Bucket, leastPadded } from '@graft/engine';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bucketRanges, bucketSizes, type FullRange, hpuBuckets } from './buckets.ts';
import { type BucketStrategy, parseHpuPlatformOptions } from './platform-options.ts';

const strategies: BucketStrategy[] = ['exponential', 'linear', 'padding-aware'];
const served = { maxSequences: 8, prefillTokens: 256, maxModelLength: 8192 };
const graphsOf = (buckets: Bucket[]) => [...new Set(buckets.map(({ batch, query }) => `${batch}x${query}`))];
const range = (min: number, step: number, max: number, padMax = max, padPercent = 50): FullRange => ({
  min,
  step,
  max,
  padMax,
  padPercent,
});

test('by default 8 sequences and pieces of 256 tokens have 9 graphs', () => {
  expect(graphsOf(hpuBuckets(parseHpuPlatformOptions({}), served))).toEqual([
    '1x1',
    '2x1',
    '4x1',
    '8x1',
    '1x16',
    '1x32',
    '1x64',
    '1x128',
    '1x256',
  ]);
});

test('a tiny model has buckets no larger than its length', () => {
  const sizes = { maxSequences: 4, prefillTokens: 256, maxModelLength: 24 };
  expect(graphsOf(hpuBuckets(parseHpuPlatformOptions({}), sizes))).toEqual(['1x1', '2x1', '4x1', '1x16', '1x24']);
  expect(graphsOf(hpuBuckets(parseHpuPlatformOptions({}), { maxSequences: 1, prefillTokens: 7, maxModelLength: 24 }))).toEqual([
    '1x1',
    '1x7',
  ]);
  expect(graphsOf(hpuBuckets(parseHpuPlatformOptions({}), { maxSequences: 1, prefillTokens: 1, maxModelLength: 1 }))).toEqual(['1x1']);
});

// The examples of vllm_gaudi's own docstrings: where its rules and ours agree.
test('linear and padding-aware sizes are those that vllm_gaudi documents', () => {
  expect(bucketSizes('linear', range(2, 32, 64))).toEqual([2, 4, 8, 16, 32, 64]);
  expect(bucketSizes('padding-aware', range(16, 16, 128, 32, 25))).toEqual([16, 32, 48, 64, 80, 96, 128]);
  expect(bucketSizes('padding-aware', range(8, 8, 64, 64, 50))).toEqual([8, 16, 32, 64]);
  expect(bucketSizes('padding-aware', range(8, 8, 64, 16, 50))).toEqual([8, 16, 32, 48, 64]);
  expect(bucketSizes('padding-aware', range(8, 8, 64, 64, 0))).toEqual([8, 16, 24, 32, 40, 48, 56, 64]);
});

test('exponential sizes are spread evenly by ratio and rounded up to the step', () => {
  expect(bucketSizes('exponential', range(128, 128, 2048))).toEqual([128, 256, 512, 1024, 2048]);
  expect(bucketSizes('exponential', range(16, 16, 100))).toEqual([16, 32, 64, 100]);
  expect(bucketSizes('exponential', range(1, 1, 6))).toEqual([1, 2, 4, 6]);
});

test('a context may begin at none, and always ends at the length that is served', () => {
  const options = parseHpuPlatformOptions({ promptContext: { min: 0, step: 2048 } });
  const contexts = hpuBuckets(options, served)
    .filter(({ query }) => query === 16)
    .map(({ context }) => context);
  expect(contexts).toEqual([0, 2048, 4096, 8192]);
});

const anySizes = fc.record({
  maxSequences: fc.integer({ min: 1, max: 64 }),
  prefillTokens: fc.integer({ min: 1, max: 600 }),
  maxModelLength: fc.integer({ min: 1, max: 5000 }),
});

describe.each(strategies)('%s', (bucketing) => {
  const anyRange = fc
    .record({
      min: fc.integer({ min: 1, max: 200 }),
      step: fc.integer({ min: 1, max: 200 }),
      more: fc.integer({ min: 0, max: 3000 }),
      padMax: fc.integer({ min: 0, max: 500 }),
      padPercent: fc.integer({ min: 0, max: 50 }),
    })
    .map(({ more, ...rest }) => ({ ...rest, max: rest.min + more }));

  test('sizes ascend from min to max', () => {
    fc.assert(
      fc.property(anyRange, (given) => {
        const sizes = bucketSizes(bucketing, given);
        expect(sizes[0]).toBe(given.min);
        expect(sizes.at(-1)).toBe(given.max);
        for (const [i, size] of sizes.slice(1).entries()) expect(size).toBeGreaterThan(sizes[i]!);
      }),
    );
  });

  test('every step that the sizes served allow has a bucket, and batch 1 x query 1 is one', () => {
    fc.assert(
      fc.property(anySizes, fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true }), (sizes, size, past) => {
        const options = parseHpuPlatformOptions({ bucketing });
        const buckets = hpuBuckets(options, sizes);
        const upTo = (most: number) => Math.max(1, Math.ceil(size * most));
        const context = Math.floor(past * sizes.maxModelLength);
        const query = upTo(Math.min(sizes.prefillTokens, sizes.maxModelLength));
        for (const step of [
          { batch: 1, query, context },
          { batch: upTo(sizes.maxSequences), query: 1, context },
        ]) {
          const bucket = leastPadded(buckets, step)!;
          expect(bucket).not.toBeNull();
          expect([bucket.batch >= step.batch, bucket.query >= step.query, bucket.context >= context]).toEqual([true, true, true]);
          const fitting = buckets.filter((b) => b.batch >= step.batch && b.query >= step.query && b.context >= context);
          expect(bucket.batch * bucket.query).toBe(Math.min(...fitting.map((b) => b.batch * b.query)));
        }
        expect(leastPadded(buckets, { batch: 1, query: 1, context })).toMatchObject({ batch: 1, query: 1 });
        expect(Math.max(...buckets.map((b) => b.batch))).toBe(sizes.maxSequences);
      }),
    );
  });
});

test('padding-aware sizes keep both bounds, except where one step is more already', () => {
  const anyRange = fc.record({
    min: fc.integer({ min: 1, max: 64 }),
    step: fc.integer({ min: 1, max: 64 }),
    more: fc.integer({ min: 0, max: 2000 }),
    padMax: fc.integer({ min: 0, max: 300 }),
    padPercent: fc.integer({ min: 0, max: 50 }),
  });
  fc.assert(
    fc.property(anyRange, ({ more, ...given }) => {
      const sizes = bucketSizes('padding-aware', { ...given, max: given.min + more });
      for (const [i, size] of sizes.slice(1).entries()) {
        const last = sizes[i]!;
        if (size <= given.step || size - last <= given.step) continue; // doubled, or a single step
        expect(size - last - 1).toBeLessThanOrEqual(given.padMax);
        expect((size - last - 1) / size).toBeLessThanOrEqual(given.padPercent / 100 + 1e-9);
      }
    }),
  );
});

test('exponential sizes at most double, before they are rounded up to the step', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 0, max: 5000 }), fc.integer({ min: 1, max: 64 }), (min, more, step) => {
      const sizes = bucketSizes('exponential', range(min, step, min + more));
      for (const [i, size] of sizes.slice(1).entries()) expect(size).toBeLessThanOrEqual(Math.ceil((2 * sizes[i]!) / step) * step);
    }),
  );
});

test('with linear no run is padded by a step or more, beyond the doubled ones', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 0, max: 1000 }), fc.integer({ min: 1, max: 64 }), (min, more, step) => {
      const sizes = bucketSizes('linear', range(min, step, min + more));
      for (const [i, size] of sizes.slice(1).entries()) if (size > step) expect(size - sizes[i]! - 1).toBeLessThan(step);
    }),
  );
});

describe('options', () => {
  test.each([
    [{ bucketting: 'linear' }, /"bucketting" is not a key here/, 'platformOptions.bucketting', /did you mean "bucketing"/],
    [{ promptQuery: { steps: 4 } }, /"steps" is not a key here/, 'platformOptions.promptQuery.steps', /did you mean "step"/],
    [{ bucketing: 'quadratic' }, /exponential/, 'platformOptions.bucketing', /README/],
    [{ decodeBatch: { min: 0 } }, /Too small/, 'platformOptions.decodeBatch.min', /README/],
    [{ promptContext: { max: 8 } }, /"max" is not a key here/, 'platformOptions.promptContext.max', /it is a key of "promptQuery"/],
  ])('%j are refused', (given, what, where, fix) => {
    expect(() => parseHpuPlatformOptions(given)).toThrow(
      expect.objectContaining({ code: 'GRAFT_HPU_OPTION', what: expect.stringMatching(what), where, fix: expect.stringMatching(fix) }),
    );
  });

  test.each([
    [
      { promptQuery: { max: 512 } },
      'promptQuery.max 512 is more than 256 tokens of a prompt in one piece (prefillTokens, maxModelLength).',
    ],
    [{ decodeBatch: { max: 9 } }, 'decodeBatch.max 9 is more than maxSequences 8.'],
    [{ decodeBatch: { min: 4, max: 2 } }, 'decodeBatch.min 4 is more than its max 2.'],
    [{ promptContext: { min: 9000 } }, 'promptContext.min 9000 is more than its max 8192.'],
  ])('%j are refused for the sizes served', (given, what) => {
    expect(() => hpuBuckets(parseHpuPlatformOptions(given), served)).toThrow(expect.objectContaining({ code: 'GRAFT_HPU_OPTION', what }));
  });

  test('a smaller largest bucket means more pieces and runs, and takes the default min along', () => {
    const options = parseHpuPlatformOptions({ promptQuery: { max: 8 }, decodeBatch: { max: 2 } });
    expect(graphsOf(hpuBuckets(options, served))).toEqual(['1x1', '2x1', '1x8']);
    expect(bucketRanges(options, served).promptQuery).toMatchObject({ min: 8, step: 8, max: 8 });
  });

  test('where decoding begins at more than one sequence, batch 1 x query 1 is still there', () => {
    expect(graphsOf(hpuBuckets(parseHpuPlatformOptions({ decodeBatch: { min: 4 } }), served))).toContain('1x1');
  });
});
