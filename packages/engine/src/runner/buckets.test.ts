import fc from 'fast-check';
import { expect, test } from 'vitest';
import { leastPadded } from './buckets.ts';

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
