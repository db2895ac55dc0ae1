import { expect, test } from 'vitest';
import type { HostTensor, Program } from '../backend.ts';
import { captureModel } from '../capture/capture.ts';
import { InterpreterBackend } from '../interpreter.ts';
import { Module } from '../nn/module.ts';
import { Parameter } from '../nn/parameter.ts';
import { RuntimeInput } from '../nn/runtime-input.ts';
import { memoryStorage } from '../nn/storage.ts';
import { ops } from '../ops/index.ts';
import { Dim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';

interface Options {
  window?: number;
  softcap?: number;
  sinks?: number[];
}

/** Attention with 4 heads over 2 key-value heads of 2 elements, and nothing else. */
class Attention extends Module {
  readonly options: Omit<Options, 'sinks'>;
  readonly sinks: Parameter | null;
  readonly keyCache = new RuntimeInput('keyCache', 'float32', ['batch', 2, 'rows', 2]);
  readonly valueCache = new RuntimeInput('valueCache', 'float32', ['batch', 2, 'rows', 2]);
  readonly queryStart = new RuntimeInput('queryStart', 'int32', ['batch']);
  readonly sequenceLengths = new RuntimeInput('sequenceLengths', 'int32', ['batch']);
  readonly totalLength = new RuntimeInput('totalLength', 'int32', []);

  constructor({ sinks, ...options }: Options) {
    super();
    this.options = options;
    this.sinks = sinks === undefined ? null : new Parameter([4]);
    this.sinks?.setStorage(memoryStorage('float32', [4], { data: Float32Array.from(sinks!) }));
  }

  forward(query: Tensor, key: Tensor, value: Tensor): Tensor {
    const { keyCache, valueCache, queryStart, sequenceLengths, totalLength, sinks } = this;
    return ops.attention(
      { query, key, value, keyCache, valueCache, queryStart, sequenceLengths, totalLength, sinks },
      { numHeads: 4, numKvHeads: 2, headDim: 2, scale: 0.5, ...this.options },
    );
  }
}

async function compile({ rows = 8, kvSlots = 3, ...options }: Options & { rows?: number; kvSlots?: number } = {}): Promise<Program> {
  const [batch, sequence] = [Dim.symbol('batch'), Dim.symbol('sequence')];
  const captured = captureModel(new Attention(options), {
    inputs: {
      query: { dtype: 'float32', dims: [batch, sequence, Dim.of(8)] },
      key: { dtype: 'float32', dims: [batch, sequence, Dim.of(4)] },
      value: { dtype: 'float32', dims: [batch, sequence, Dim.of(4)] },
    },
    call: (model, { query, key, value }) => ({ out: model.forward(query, key, value) }),
    batch,
  });
  const bindRuntimeInput = (_path: string, kind: string) =>
    kind.endsWith('Cache') ? ({ kind: 'cache', rows } as const) : ({ kind: 'input', name: kind } as const);
  return new InterpreterBackend().compile(captured, { bindRuntimeInput, kvSlots });
}

type Token = { query: number[]; key: number[]; value: number[] };

/** Tokens whose numbers depend on the seed and their place only. */
function tokens(count: number, seed: number): Token[] {
  let state = seed;
  const draw = (length: number): number[] => Array.from({ length }, () => (state = (state * 48271) % 2147483647) / 2147483647 - 0.5);
  return Array.from({ length: count }, () => ({ query: draw(8), key: draw(4), value: draw(4) }));
}

const int32 = (dims: number[], ...data: number[]): HostTensor => ({ dtype: 'int32', dims, data: Int32Array.from(data) });

/** Sequences of equal (padded) length, each with its first row and its true length after the step. */
async function run(
  program: Program,
  firstSlot: number,
  sequences: { tokens: Token[]; start: number; length: number }[],
): Promise<number[][][]> {
  const [batch, count] = [sequences.length, sequences[0]!.tokens.length];
  const pack = (name: keyof Token, size: number): HostTensor => ({
    dtype: 'float32',
    dims: [batch, count, size],
    data: Float32Array.from(sequences.flatMap((sequence) => sequence.tokens.flatMap((token) => token[name]))),
  });
  const lengths = sequences.map(({ length }) => length);
  const { out } = await program.run({
    firstSlot,
    batch,
    inputs: {
      query: pack('query', 8),
      key: pack('key', 4),
      value: pack('value', 4),
      queryStart: int32([batch], ...sequences.map(({ start }) => start)),
      sequenceLengths: int32([batch], ...lengths),
      totalLength: int32([], Math.max(...lengths)),
    },
  });
  const data = Array.from(out!.data as Float32Array);
  return sequences.map((_, b) => Array.from({ length: count }, (_, i) => data.slice((b * count + i) * 8, (b * count + i + 1) * 8)));
}

/** Attention of a whole sequence as the formula says, without a cache. */
function direct(sequence: Token[], { window = sequence.length, softcap, sinks }: Options = {}): number[][] {
  return sequence.map(({ query }, i) =>
    [0, 1, 2, 3].flatMap((head) => {
      const kv = Math.floor(head / 2);
      const seen = sequence.slice(Math.max(0, i + 1 - window), i + 1);
      const powers = seen.map(({ key }) => {
        const score = 0.5 * (query[2 * head]! * key[2 * kv]! + query[2 * head + 1]! * key[2 * kv + 1]!);
        return Math.exp(softcap === undefined ? score : softcap * Math.tanh(score / softcap));
      });
      const sum = powers.reduce((a, b) => a + b) + (sinks === undefined ? 0 : Math.exp(sinks[head]!));
      return [0, 1].map((d) => powers.reduce((total, power, row) => total + (power / sum) * seen[row]!.value[2 * kv + d]!, 0));
    }),
  );
}

function expectClose(actual: number[][], expected: number[][]): void {
  expect(actual).toHaveLength(expected.length);
  for (const [i, row] of expected.entries()) for (const [d, value] of row.entries()) expect(actual[i]![d]).toBeCloseTo(value, 5);
}

test('equal scores average the values seen so far; query head h reads key-value head h / 2', async () => {
  using program = await compile();
  const zero = { query: Array(8).fill(0), key: [0, 0, 0, 0] };
  const sequence = [
    { ...zero, value: [1, 2, 3, 4] },
    { ...zero, value: [3, 6, 5, 8] },
  ];
  const [out] = await run(program, 0, [{ tokens: sequence, start: 0, length: 2 }]);
  expect(out).toEqual([
    [1, 2, 1, 2, 3, 4, 3, 4],
    [2, 4, 2, 4, 4, 6, 4, 6],
  ]);
});

test('a sequence in pieces gives the same results as in one step, and those of the formula', async () => {
  using program = await compile();
  const sequence = tokens(6, 1);
  const [whole] = await run(program, 0, [{ tokens: sequence, start: 0, length: 6 }]);
  expectClose(whole!, direct(sequence));
  const pieces: number[][] = [];
  for (const [start, end] of [
    [0, 3],
    [3, 5],
    [5, 6],
  ] as const) {
    pieces.push(...(await run(program, 1, [{ tokens: sequence.slice(start, end), start, length: end }]))[0]!);
  }
  expect(pieces).toEqual(whole);
});

test.each<Options>([
  { window: 1 },
  { window: 3 },
  { window: 9 },
  { softcap: 0.1 },
  { sinks: [-1, 0, 1, 2] },
  { window: 2, softcap: 0.2, sinks: [0, 3, -2, 0.5] },
])('a window, a soft cap and sinks do what the formula says, in pieces too: %o', async (options) => {
  using program = await compile(options);
  const sequence = tokens(8, 10);
  const [first] = await run(program, 2, [{ tokens: sequence.slice(0, 5), start: 0, length: 5 }]);
  const [second] = await run(program, 2, [{ tokens: sequence.slice(5), start: 5, length: 8 }]);
  expectClose([...first!, ...second!], direct(sequence, options));
});

test('a window of one token gives its value, and a sink takes its share', async () => {
  using alone = await compile({ window: 1 });
  const sequence = tokens(3, 11).map((token) => ({ ...token, query: Array<number>(8).fill(0) }));
  const values = sequence.map(({ value: [a, b, c, d] }) => [a, b, a, b, c, d, c, d] as number[]);
  expectClose((await run(alone, 0, [{ tokens: sequence, start: 0, length: 3 }]))[0]!, values);
  using shared = await compile({ window: 1, sinks: [0, Math.log(3), 0, 0] }); // scores of 0: halves, and a quarter for the second head
  const [out] = await run(shared, 0, [{ tokens: sequence, start: 0, length: 3 }]);
  const shares = values.map((row) => row.map((value, i) => value * (i === 2 || i === 3 ? 0.25 : 0.5)));
  expectClose(out!, shares);
});

test('each slot keeps one sequence, and a batch is a contiguous group of slots', async () => {
  using program = await compile();
  const sequences = [tokens(4, 2), tokens(4, 3), tokens(4, 4)];
  for (const [slot, sequence] of sequences.entries()) await run(program, slot, [{ tokens: sequence.slice(0, 3), start: 0, length: 3 }]);
  const last = (from: number) => sequences.slice(from).map((sequence) => ({ tokens: sequence.slice(3), start: 3, length: 4 }));
  const out = await run(program, 1, last(1));
  expectClose(out[0]!, direct(sequences[1]!).slice(3));
  expectClose(out[1]!, direct(sequences[2]!).slice(3));
  expectClose((await run(program, 0, last(0).slice(0, 1)))[0]!, direct(sequences[0]!).slice(3));
});

test('padding neither reaches the cache nor other rows, not even as NaN', async () => {
  using program = await compile();
  const sequence = tokens(5, 5);
  const nan = { query: Array(8).fill(Number.NaN), key: Array(4).fill(Number.NaN), value: Array(4).fill(Number.NaN) };
  const other = tokens(3, 6);
  const [first, second] = await run(program, 0, [
    { tokens: [...sequence.slice(0, 2), nan], start: 0, length: 2 },
    { tokens: other, start: 0, length: 3 },
  ]);
  expectClose(first!.slice(0, 2), direct(sequence).slice(0, 2));
  expectClose(second!, direct(other));
  expect(first![2]!.some(Number.isNaN)).toBe(false);
  const [rest] = await run(program, 0, [{ tokens: sequence.slice(2), start: 2, length: 5 }]);
  expectClose(rest!, direct(sequence).slice(2));
});

test('a slot that starts again at row 0 sees nothing of what was there', async () => {
  using program = await compile();
  await run(program, 0, [{ tokens: tokens(8, 7), start: 0, length: 8 }]);
  const sequence = tokens(3, 8);
  const [out] = await run(program, 0, [{ tokens: sequence, start: 0, length: 3 }]);
  expectClose(out!, direct(sequence));
});

test('rows past the end of the cache are refused', async () => {
  using program = await compile({ rows: 4 });
  await expect(run(program, 0, [{ tokens: tokens(3, 9), start: 2, length: 5 }])).rejects.toThrow('needs cache rows 2 to 5; there are 4');
});
