import { expect, test } from 'vitest';
import { compareRuns } from './compare-runs.ts';
import type { RecordedRun } from './record-run.ts';

const rows = (...values: number[][]): Float32Array => Float32Array.from(values.flat());

/** Three tokens of two values each; two tokens of an answer over a vocabulary of three. */
function runOf(
  stream: Float32Array,
  logits: number[][] = [
    [0, 1, 2],
    [3, 1, 2],
  ],
): RecordedRun {
  const greedy = logits.map((row) => row.indexOf(Math.max(...row)));
  return {
    tokens: 3,
    image: null,
    streams: [rows([1, 1], [1, 1], [1, 1]), stream],
    logits: logits.map((row) => Float32Array.from(row)),
    greedy,
  };
}

const upstream = runOf(rows([1000, -4000], [2, -1], [8, 1]));

test('a difference is relative to the largest value of its token, or to 1 if that is larger', () => {
  // 2 of 4000 is less than 0.5 of 8, though it is more.
  const override = runOf(rows([1002, -4000], [2, -1], [8, 1.5]));
  expect(compareRuns(upstream, override, 0.1).layers).toEqual([
    { layer: 'embedding', difference: 0, largest: 1, relative: 0, position: 0, within: true },
    { layer: 0, difference: 0.5, largest: 8, relative: 0.0625, position: 2, within: true },
  ]);
  const [, over] = compareRuns(upstream, override, 0.06).layers;
  expect(over!.within).toBe(false);
  const small = [runOf(rows([0.25, 0], [0, 0], [0, 0])), runOf(rows([0.25, 0.5], [0, 0], [0, 0]))] as const;
  expect(compareRuns(...small, 1).layers[1]).toMatchObject({ difference: 0.5, largest: 0.25, relative: 0.5 });
});

test.each([Number.NaN, Number.POSITIVE_INFINITY])('%s is within no tolerance, and named by its token', (value) => {
  const [, layer] = compareRuns(upstream, runOf(rows([1000, -4000], [2, value], [8, 1])), Number.MAX_VALUE).layers;
  expect(layer).toMatchObject({ difference: null, relative: null, position: 1, within: false });
});

test('a stream that the override lacks is within no tolerance', () => {
  const override = { ...upstream, streams: [upstream.streams[0]!] };
  expect(compareRuns(upstream, override, 1).layers[1]).toMatchObject({ difference: null, within: false });
});

test('logits are compared from the last token of the prompt on', () => {
  const override = runOf(upstream.streams[1]!, [
    [0, 1, 2],
    [3, 2, 2],
  ]);
  expect(compareRuns(upstream, override, 0).logits).toMatchObject({ difference: 1, largest: 3, position: 2, within: false });
});

test('the first different token is reported with the lead of upstream’s token', () => {
  expect(compareRuns(upstream, upstream, 0).ids).toEqual({ equal: true, firstDifferent: null, margin: null });
  const override = runOf(upstream.streams[1]!, [
    [0, 1, 2],
    [1, 1, 2],
  ]);
  expect(compareRuns(upstream, override, 0).ids).toEqual({ equal: false, firstDifferent: 1, margin: 1 }); // 3 against 2
});
