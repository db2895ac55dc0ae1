import { expect, test } from 'vitest';
import { pipelineLayers } from './pipeline.ts';

const shares = (count: number, size: number): number[] =>
  Array.from({ length: size }, (_, rank) => pipelineLayers(count, { rank, size })).map(({ start, end }) => end - start);

test.each([
  // vLLM's get_pp_indices.
  [8, 1, [8]],
  [8, 2, [4, 4]],
  [48, 4, [12, 12, 12, 12]],
  [7, 2, [4, 3]],
  [7, 3, [2, 3, 2]],
  [8, 3, [3, 3, 2]],
  [43, 4, [11, 11, 11, 10]],
  [5, 5, [1, 1, 1, 1, 1]],
])(
  '%i layers over %i ranks: what is left over goes to the ranks before the last, from the second to last backwards',
  (count, size, expected) => {
    expect(shares(count, size)).toEqual(expected);
  },
);

test('ranks follow each other without a gap', () => {
  for (const [count, size] of [
    [7, 3],
    [43, 4],
  ] as const) {
    const ranges = Array.from({ length: size }, (_, rank) => pipelineLayers(count, { rank, size }));
    expect(ranges.map(({ start }) => start)).toEqual([0, ...ranges.slice(0, -1).map(({ end }) => end)]);
    expect(ranges.at(-1)!.end).toBe(count);
  }
});

test.each([
  [2, { rank: 0, size: 3 }, '2 layers cannot be divided over 3 pipeline ranks.'],
  [8, { rank: 2, size: 2 }, 'Rank 2 is not one of 2 pipeline ranks.'],
])('a division that leaves a rank without a layer, and an unknown rank, are refused', (count, stage, message) => {
  expect(() => pipelineLayers(count, stage)).toThrow(message);
});
