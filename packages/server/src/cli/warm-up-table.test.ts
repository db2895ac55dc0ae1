import { expect, test } from 'vitest';
import { warmUpTable } from './warm-up-table.ts';

test('a warm-up is a table with its sum below', () => {
  const rows = [
    { kind: 'prompt' as const, buckets: 10, graphs: 5, seconds: 3.14, padding: 0.47 },
    { kind: 'image' as const, buckets: 1, graphs: 1, seconds: 12.5, padding: null },
  ];
  expect(warmUpTable({ rows, captured: 12, optimised: 3, fromRecipes: 8, seconds: 15.64 })).toBe(
    [
      'warm-up  buckets  graphs  seconds  padding at most',
      'prompt        10       5      3.1             47 %',
      'image          1       1     12.5                -',
      '12 captured, 3 optimised, 8 from recipes, 15.6 s',
      '',
    ].join('\n'),
  );
});
