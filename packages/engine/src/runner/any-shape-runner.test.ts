import type { HostTensor } from '@graft/graph';
import { beforeEach, expect, test } from 'vitest';
import { generateIds, promptOf, request, startTiny } from '../engine.fixture.ts';
import { watch } from '../interpreter-plugin.fixture.ts';

beforeEach(() => watch.reset());

const values = (tensor: HostTensor | undefined): number[] => Array.from(tensor!.data, Number);

/** Of each run: the positions, and what each group of the KV cache is told: [query starts, sequence lengths, total]. */
function runs() {
  return watch.steps.map(({ inputs }) => {
    const group = (name: string) => [
      values(inputs[`${name}.queryStart`]),
      values(inputs[`${name}.sequenceLengths`]),
      values(inputs[`${name}.totalLength`])[0],
    ];
    return { positions: values(inputs['positions']), full: group('full'), chunked: group('chunked-local-16') };
  });
}

test('positions count on; a chunked group counts from the start of the chunk', async () => {
  const engine = await startTiny({ name: 'scout-tiny', prefillTokens: 12 });
  await generateIds(engine, request(promptOf(30), { maxTokens: 4 }));
  expect(runs().map(({ full, chunked }) => [full, chunked])).toEqual([
    [
      [[0], [12], 12],
      [[0], [12], 12],
    ],
    [
      [[12], [16], 16],
      [[12], [16], 16],
    ],
    [
      [[16], [28], 28],
      [[0], [12], 12],
    ],
    [
      [[28], [30], 30],
      [[12], [14], 14],
    ],
    [
      [[30], [31], 31],
      [[14], [15], 15],
    ],
    [
      [[31], [32], 32],
      [[15], [16], 16],
    ],
    [
      [[32], [33], 33],
      [[0], [1], 1],
    ],
  ]);
  expect(runs()[2]!.positions).toEqual([16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27]);
});

test('each row of a decode batch has its length, and the longest is the total', async () => {
  const engine = await startTiny({ name: 'scout-tiny', prefillTokens: 32 });
  await Promise.all([14, 3].map((length) => generateIds(engine, request(promptOf(length), { maxTokens: 5 }))));
  const last = runs().filter(({ positions }) => positions.length === 2);
  expect(last[0]).toEqual({ positions: [15, 3], full: [[15, 3], [16, 4], 16], chunked: [[15, 3], [16, 4], 16] });
  expect(last[1]).toEqual({ positions: [16, 4], full: [[16, 4], [17, 5], 17], chunked: [[0, 4], [1, 5], 5] });
});

test('logits are computed for the last token, or for all tokens of an observed prompt', async () => {
  const engine = await startTiny();
  const positions: number[] = [];
  const observer = { promptLogits: true, onLogits: (position: number) => void positions.push(position) };
  await generateIds(engine, request(promptOf(10), { maxTokens: 3 }), { observer });
  expect(watch.steps.map(({ inputs }) => values(inputs['logitsIndices']))).toEqual([[0, 1, 2, 3, 4, 5, 6, 7], [0, 1], [0], [0]]);
  expect(positions).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  watch.reset();
  await generateIds(engine, request(promptOf(10), { maxTokens: 1 }));
  expect(watch.steps.map(({ inputs }) => values(inputs['logitsIndices']))).toEqual([[7], [1]]);
});

test('residual streams of the requested layers come with each token, row by row', async () => {
  const engine = await startTiny({ auxHiddenStateLayers: [1, 8] });
  const seen = async (seeds: number[]) => {
    const states = seeds.map((): number[][] => []);
    await Promise.all(
      seeds.map((seed, i) => {
        const observer = {
          onAuxHiddenStates: (start: number, count: number, layers: readonly Float32Array[]) =>
            void states[i]!.push([start, count, ...layers.map((layer) => layer.length), ...layers.map((layer) => layer[5]!)]),
        };
        return generateIds(engine, request(promptOf(3, seed), { maxTokens: 3 }), { observer });
      }),
    );
    return states;
  };
  const [alone] = await seen([1]);
  expect(alone!.map((state) => state.slice(0, 4))).toEqual([
    [0, 3, 96, 96],
    [3, 1, 32, 32],
    [4, 1, 32, 32],
  ]);
  expect((await seen([2, 1]))[1]).toEqual(alone);
});
