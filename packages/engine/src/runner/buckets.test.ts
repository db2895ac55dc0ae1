import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Bucket, type DecodeRows, decodeWindows, leastPadded } from './buckets.ts';

const bucket = (batch: number, query: number, context = 100): Bucket => ({ batch, query, context });
const size = fc.integer({ min: 1, max: 9 });
const context = fc.integer({ min: 0, max: 20 });

test('the least padded bucket holds the step, and none with fewer tokens does', () => {
  const buckets = fc.array(fc.record({ batch: size, query: size, context }));
  fc.assert(
    fc.property(buckets, fc.record({ batch: size, query: size, context }), (all, need) => {
      const holding = all.filter((b) => b.batch >= need.batch && b.query >= need.query && b.context >= need.context);
      const chosen = leastPadded(all, need);
      expect(chosen === null).toBe(holding.length === 0);
      if (chosen === null) return;
      expect(holding).toContain(chosen);
      expect(chosen.batch * chosen.query).toBe(Math.min(...holding.map((b) => b.batch * b.query)));
    }),
  );
});

test.each([
  ['all slots behind the rows are free', [], [[4, 0, 3]]],
  [
    'the slot behind the rows is owned',
    [5],
    [
      [2, 0, 2],
      [1, 2, 1],
    ],
  ],
])('three rows at slots 2 to 4 with batches of 1, 2 and 4, when %s', (_, owned: number[], expected) => {
  const rows: DecodeRows = { firstSlot: 2, computed: [5, 9, 1], isFree: (slot) => !owned.includes(slot) };
  const windows = decodeWindows([bucket(1, 1), bucket(2, 1), bucket(4, 1), bucket(1, 16)], rows);
  expect(windows.map(({ bucket, start, count }) => [bucket.batch, start, count])).toEqual(expected);
});

test('every row is computed once, in order, in a bucket that holds its context; padding never stands on an owned slot', () => {
  const decode = fc.array(fc.record({ batch: size, query: fc.constant(1), context }), { maxLength: 6 });
  const slots = fc.array(fc.record({ owned: fc.boolean(), computed: context }), { minLength: 1, maxLength: 16 });
  fc.assert(
    fc.property(decode, slots, fc.nat({ max: 15 }), size, (others, all, from, most) => {
      const firstSlot = from % all.length;
      const rows = all.slice(firstSlot, firstSlot + most);
      const isFree = (slot: number): boolean => slot >= all.length || !all[slot]!.owned;
      const buckets = [...others, bucket(1, 1)];
      const windows = decodeWindows(buckets, { firstSlot, computed: rows.map(({ computed }) => computed), isFree });
      let next = 0;
      for (const { bucket, start, count } of windows) {
        expect([start, count > 0, count <= bucket.batch]).toEqual([next, true, true]);
        next += count;
        for (const { computed } of rows.slice(start, start + count)) expect(computed).toBeLessThanOrEqual(bucket.context);
        for (let slot = firstSlot + start + count; slot < firstSlot + start + bucket.batch; slot++) {
          expect(slot >= firstSlot + rows.length && isFree(slot)).toBe(true);
        }
      }
      expect(next).toBe(rows.length);
    }),
  );
});
