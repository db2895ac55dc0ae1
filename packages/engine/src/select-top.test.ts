import fc from 'fast-check';
import { expect, test } from 'vitest';
import { exponential } from './sampler.ts';
import { selectTop } from './select-top.ts';

/** Sorts everything: by weight, then by id. */
function oracle(weights: readonly number[], keep: number, mass: number): number[] {
  const ids = weights.map((_, id) => id).sort((a, b) => weights[b]! - weights[a]! || a - b);
  const kept: number[] = [];
  let reached = 0;
  for (const id of ids) {
    kept.push(id);
    reached += weights[id]!;
    if (kept.length >= keep || reached >= mass) break;
  }
  return kept.sort((a, b) => a - b);
}

function select(weights: readonly number[], keep: number, mass: number): number[] {
  const ids = Int32Array.from(weights, (_, id) => id);
  const count = selectTop(ids, Float64Array.from(weights), weights.length, keep, mass);
  return [...ids.subarray(0, count)].sort((a, b) => a - b);
}

// Whole numbers, so that sums are exact in any order; few values, so that ties abound.
const weights = fc.array(fc.integer({ min: 0, max: 6 }), { minLength: 1, maxLength: 60 });

test('keeps the same entries as sorting, by number and by weight', () => {
  fc.assert(
    fc.property(
      weights,
      fc.integer({ min: 0, max: 70 }),
      fc.oneof(fc.integer({ min: 0, max: 200 }), fc.constant(Infinity)),
      (row, keep, mass) => {
        expect(select(row, keep, mass)).toEqual(oracle(row, keep, mass));
      },
    ),
    { numRuns: 1000 },
  );
});

// Quadratic would take minutes here, more than a test may.
test('ends on long rows that are sorted, reversed or all equal', () => {
  for (const weight of [(i: number) => i, (i: number) => -i, () => 1]) {
    const row = Float64Array.from({ length: 100_000 }, (_, i) => weight(i));
    const ids = Int32Array.from(row, (_, i) => i);
    expect(selectTop(ids, row, row.length, 1000, Number.POSITIVE_INFINITY)).toBe(1000);
  }
});

test('exponential is Math.exp to 1e-13 where it is not negligible', () => {
  fc.assert(
    fc.property(fc.double({ min: -50, max: 0, noNaN: true }), (x) => {
      expect(Math.abs(exponential(x) / Math.exp(x) - 1)).toBeLessThan(1e-13);
    }),
    { numRuns: 1000 },
  );
  expect([exponential(0), exponential(-50.1), exponential(-Infinity)]).toEqual([1, 0, 0]);
});
