import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Bucket } from './buckets.ts';
import { stepPieces } from './step-pieces.ts';

const bucket = (batch: number, query: number, context = 100): Bucket => ({ batch, query, context });
const size = fc.integer({ min: 1, max: 9 });
const context = fc.integer({ min: 0, max: 20 });

/** A decoding step: one token of each row. */
const decodeStep = (firstSlot: number, computed: readonly number[]) => ({
  firstSlot,
  rows: computed.map((tokens) => ({ tokenIds: [5], computed: tokens })),
  logits: 'last' as const,
});

test.each([
  ['all slots after the rows are free', [], [[4, 2, 3]]],
  [
    'the slot after the rows is taken',
    [5],
    [
      [2, 2, 2],
      [1, 4, 1],
    ],
  ],
])('three rows at slots 2 to 4 with batches of 1, 2 and 4, when %s', (_, taken: number[], expected) => {
  const buckets = [bucket(1, 1), bucket(2, 1), bucket(4, 1), bucket(1, 16)];
  const pieces = stepPieces(decodeStep(2, [5, 9, 1]), buckets, (slot) => !taken.includes(slot));
  expect(pieces.map((piece) => [piece.bucket.batch, piece.firstSlot, piece.realRows])).toEqual(expected);
});

test('every row is computed once, in order, in a bucket that holds its context; padding never stands on a taken slot', () => {
  const decode = fc.array(fc.record({ batch: size, query: fc.constant(1), context }), { maxLength: 6 });
  const slots = fc.array(fc.record({ taken: fc.boolean(), computed: context }), { minLength: 1, maxLength: 16 });
  fc.assert(
    fc.property(decode, slots, fc.nat({ max: 15 }), size, (others, all, from, most) => {
      const firstSlot = from % all.length;
      const rows = all.slice(firstSlot, firstSlot + most);
      const isFree = (slot: number): boolean => slot >= all.length || !all[slot]!.taken;
      const step = decodeStep(
        firstSlot,
        rows.map(({ computed }) => computed),
      );
      const pieces = stepPieces(step, [...others, bucket(1, 1)], isFree);
      expect(pieces.flatMap((piece) => piece.rows.slice(0, piece.realRows))).toEqual(step.rows);
      let next = firstSlot;
      for (const piece of pieces) {
        const { batch, context } = piece.bucket;
        expect([piece.firstSlot, piece.rows.length, piece.realRows > 0]).toEqual([next, batch, true]);
        next += piece.realRows;
        for (const { computed } of piece.rows.slice(0, piece.realRows)) expect(computed).toBeLessThanOrEqual(context);
        for (let slot = next; slot < piece.firstSlot + batch; slot++) {
          expect(slot >= firstSlot + rows.length && isFree(slot)).toBe(true);
        }
      }
    }),
  );
});
