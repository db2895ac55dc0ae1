import { describe, expect, test } from 'vitest';
import type { HostTensor } from '../backend.ts';
import { captureModel } from '../capture/capture.ts';
import { ProgramInputError } from '../errors.ts';
import { InterpreterBackend } from '../interpreter.ts';
import { Module } from '../nn/module.ts';
import { type OpName, ops } from '../ops/index.ts';
import { dimsOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';

const float = (dims: number[], ...data: number[]): HostTensor => ({ dtype: 'float32', dims, data: Float32Array.from(data) });
const int64 = (dims: number[], ...data: number[]): HostTensor => ({ dtype: 'int64', dims, data: BigInt64Array.from(data, BigInt) });
const int32 = (dims: number[], ...data: number[]): HostTensor => ({ dtype: 'int32', dims, data: Int32Array.from(data) });
const bool = (dims: number[], ...data: number[]): HostTensor => ({ dtype: 'bool', dims, data: Uint8Array.from(data) });

/** Runs one op on these tensors. */
async function run(name: OpName, inputs: Record<string, HostTensor>, attributes: object = {}): Promise<HostTensor[]> {
  const op = ops[name] as unknown as (inputs: object, attributes: object) => Tensor | Tensor[];
  const specs = Object.fromEntries(Object.entries(inputs).map(([key, { dtype, dims }]) => [key, { dtype, dims: dimsOf(dims) }]));
  const captured = captureModel(new Module(), { inputs: specs, call: (_, tensors) => ({ out: [op(tensors, attributes)].flat() }) });
  using program = await new InterpreterBackend().compile(captured, { bindRuntimeInput: () => ({ kind: 'cache', rows: 1 }), kvSlots: 1 });
  return Object.values(await program.run({ firstSlot: 0, batch: 1, inputs }));
}

/** The first output, rounded to 5 digits after the point, so that expected numbers can be read. */
async function first(
  name: OpName,
  inputs: Record<string, HostTensor>,
  attributes: object = {},
): Promise<{ dims: readonly number[]; values: number[] }> {
  const [{ dims, data }] = (await run(name, inputs, attributes)) as [HostTensor];
  return { dims, values: Array.from(data as Float32Array, (value) => Math.round(Number(value) * 1e5) / 1e5) };
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const rounded = (values: number[]): number[] => values.map((value) => Math.round(value * 1e5) / 1e5);

describe('elementwise ops', () => {
  test.each<[OpName, Record<string, HostTensor>, object, number[], number[]]>([
    ['add', { a: float([2, 3], 1, 2, 3, 4, 5, 6), b: float([3], 10, 20, 30) }, {}, [2, 3], [11, 22, 33, 14, 25, 36]],
    ['add', { a: float([2, 1], 1, 2), b: float([1, 3], 10, 20, 30) }, {}, [2, 3], [11, 21, 31, 12, 22, 32]],
    ['add', { a: int64([2], 1, 2), b: int64([], 40) }, {}, [2], [41, 42]],
    ['mul', { a: float([2, 2], 1, 2, 3, 4), b: float([2, 1], 10, 100) }, {}, [2, 2], [10, 20, 300, 400]],
    ['mul', { a: int32([2], 3, -4), b: int32([2], 5, 5) }, {}, [2], [15, -20]],
    ['addScalar', { x: float([2], 1, 2) }, { value: 0.5 }, [2], [1.5, 2.5]],
    ['addScalar', { x: int64([2], 1, 2) }, { value: -3 }, [2], [-2, -1]],
    ['mulScalar', { x: float([2], 1, 2) }, { value: 0.5 }, [2], [0.5, 1]],
    ['divScalar', { x: float([2], 1, 3) }, { value: 4 }, [2], [0.25, 0.75]],
    ['floor', { x: float([4], 1.5, -1.5, 2, -0.1) }, {}, [4], [1, -2, 2, -1]],
    ['log', { x: float([2], 1, Math.E) }, {}, [2], [0, 1]],
    ['sigmoid', { x: float([3], 0, Math.log(3), -1000) }, {}, [3], [0.5, 0.75, 0]],
    // x * Phi(x) with the normal distribution's table: Phi(1) = 0.84134, Phi(2) = 0.97725, Phi(-1) = 0.15866, Phi(-4) = 0.0000317.
    ['gelu', { x: float([6], 0, 1, 2, -1, -4, 10) }, {}, [6], [0, 0.84134, 1.9545, -0.15866, -0.00013, 10]],
    ['cast', { x: float([3], 1.9, -1.9, 0) }, { dtype: 'int64' }, [3], [1, -1, 0]],
    ['cast', { x: float([3], 1.9, -1.9, 0) }, { dtype: 'int32' }, [3], [1, -1, 0]],
    ['cast', { x: float([3], 0.5, -1.9, 0) }, { dtype: 'bool' }, [3], [1, 1, 0]],
    ['cast', { x: int64([2], 7, -7) }, { dtype: 'float32' }, [2], [7, -7]],
    ['cast', { x: bool([2], 1, 0) }, { dtype: 'float32' }, [2], [1, 0]],
    ['cast', { x: float([1], 3) }, { dtype: 'float32' }, [1], [3]],
  ])('%s of %o %o', async (name, inputs, attributes, dims, values) => {
    expect(await first(name, inputs, attributes)).toEqual({ dims, values });
  });

  test('siluAndMul takes the first half as the gate', async () => {
    // silu(ln 3) = ln 3 * 0.75; silu(0) = 0.
    const x = float([2, 4], Math.log(3), 0, 2, 5, 0, Math.log(3), 7, 4);
    expect((await first('siluAndMul', { x })).values).toEqual(rounded([0.75 * Math.log(3) * 2, 0, 0, 0.75 * Math.log(3) * 4]));
  });

  test('geluTanhAndMul and swigluOaiAndMul take the first half as the gate', async () => {
    const gelu = (x: number): number => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
    expect((await first('geluTanhAndMul', { x: float([4], 1.5, -0.5, 2, 3) })).values).toEqual(rounded([gelu(1.5) * 2, gelu(-0.5) * 3]));
    // The gate is clamped above alone, the other half on both sides.
    const x = float([2, 4], 1, 9, 2, 9, -9, -1, -9, 0.5);
    const { values } = await first('swigluOaiAndMul', { x }, { alpha: 1.5, limit: 3 });
    const swish = (gate: number): number => gate * sigmoid(1.5 * gate);
    expect(values).toEqual(rounded([swish(1) * 3, swish(3) * 4, swish(-9) * -2, swish(-1) * 1.5]));
  });

  test('results are rounded to float32', async () => {
    expect((await run('divScalar', { x: float([1], 1) }, { value: 3 }))[0]!.data[0]).toBe(Math.fround(1 / 3));
  });
});

describe('layout ops', () => {
  test('reshape keeps the row-major order', async () => {
    expect(await first('reshape', { x: float([2, 3], 1, 2, 3, 4, 5, 6) }, { dims: [3, 2] })).toEqual({
      dims: [3, 2],
      values: [1, 2, 3, 4, 5, 6],
    });
  });

  test('split cuts the last axis', async () => {
    const pieces = await run('split', { x: int64([2, 3], 1, 2, 3, 4, 5, 6) }, { sizes: [1, 2] });
    expect(pieces).toEqual([int64([2, 1], 1, 4), int64([2, 2], 2, 3, 5, 6)]);
  });

  test('gatherRows takes rows over all leading axes, in the order of the indices', async () => {
    const x = float([2, 2, 2], 1, 2, 3, 4, 5, 6, 7, 8);
    expect(await first('gatherRows', { x, indices: int64([3], 3, 0, 3) })).toEqual({ dims: [3, 2], values: [7, 8, 1, 2, 7, 8] });
    await expect(run('gatherRows', { x, indices: int64([1], 4) })).rejects.toThrow('Index 4 is outside of the 4 rows');
  });

  test('zerosLike has the shape and type of its input', async () => {
    expect(await run('zerosLike', { x: int32([2], 1, 2) })).toEqual([int32([2], 0, 0)]);
  });

  test('permute moves whole axes', async () => {
    const x = float([2, 1, 3], 1, 2, 3, 4, 5, 6);
    expect(await first('permute', { x }, { axes: [2, 0, 1] })).toEqual({ dims: [3, 2, 1], values: [1, 4, 2, 5, 3, 6] });
    expect(await run('permute', { x: int64([2, 2], 1, 2, 3, 4) }, { axes: [1, 0] })).toEqual([int64([2, 2], 1, 3, 2, 4)]);
  });

  test('concat joins along an axis, slice takes a part of one', async () => {
    const [a, b] = [float([2, 1, 2], 1, 2, 3, 4), float([2, 2, 2], 5, 6, 7, 8, 9, 10, 11, 12)];
    expect(await first('concat', { a, b }, { axis: 1 })).toEqual({ dims: [2, 3, 2], values: [1, 2, 5, 6, 7, 8, 3, 4, 9, 10, 11, 12] });
    expect(await first('slice', { x: b }, { axis: 1, start: 1, end: 2 })).toEqual({ dims: [2, 1, 2], values: [7, 8, 11, 12] });
    expect(await first('slice', { x: b }, { axis: 0, start: 0, end: 1 })).toEqual({ dims: [1, 2, 2], values: [5, 6, 7, 8] });
  });

  test('replaceRows keeps a row where the index is negative, and refuses one past the rows', async () => {
    const x = float([2, 2, 2], 1, 2, 3, 4, 5, 6, 7, 8);
    const rows = float([2, 2], 10, 20, 30, 40);
    const { values } = await first('replaceRows', { x, rows, indices: int64([2, 2], -1, 1, 0, -7) });
    expect(values).toEqual([1, 2, 30, 40, 10, 20, 7, 8]);
    expect(Array.from(x.data as Float32Array)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    await expect(run('replaceRows', { x, rows, indices: int64([2, 2], 2, 0, 0, 0) })).rejects.toThrow('Index 2 is outside of the 2 rows');
  });
});

describe('weights', () => {
  const weight = float([3, 2], 1, 2, 3, 4, 5, 6);

  test('linear multiplies with the transpose', async () => {
    const x = float([1, 2, 2], 1, 0, 1, -1);
    expect(await first('linear', { x, weight })).toEqual({ dims: [1, 2, 3], values: [1, 3, 5, -1, -1, -1] });
    expect((await first('linear', { x, weight, bias: float([3], 10, 20, 30) })).values).toEqual([11, 23, 35, 9, 19, 29]);
  });

  test('embedding takes the row of each id, and refuses one that has none', async () => {
    expect(await first('embedding', { ids: int64([1, 2], 2, 0), weight })).toEqual({ dims: [1, 2, 2], values: [5, 6, 1, 2] });
    for (const id of [3, -1]) await expect(run('embedding', { ids: int64([1], id), weight })).rejects.toThrow(ProgramInputError);
    await expect(run('embedding', { ids: int64([1], 3), weight })).rejects.toThrow('embedding at ');
  });

  test('rmsNorm divides each row by its root mean square', async () => {
    // Mean squares: (9 + 16) / 2 and (0 + 4) / 2.
    const x = float([2, 2], 3, 4, 0, 2);
    const [a, b] = [1 / Math.sqrt(12.5 + 0.5), 1 / Math.sqrt(2 + 0.5)];
    expect((await first('rmsNorm', { x }, { epsilon: 0.5 })).values).toEqual(rounded([3 * a, 4 * a, 0, 2 * b]));
    expect((await first('rmsNorm', { x, weight: float([2], 10, 1) }, { epsilon: 0.5 })).values).toEqual(rounded([30 * a, 4 * a, 0, 2 * b]));
  });

  test('layerNorm takes the mean away and divides by the standard deviation', async () => {
    // Mean 4 and variance (9 + 1 + 1 + 9) / 4 = 5; then a row that is constant.
    const x = float([2, 4], 1, 3, 5, 7, 2, 2, 2, 2);
    const norm = { weight: float([4], 1, 1, 1, 2), bias: float([4], 0, 10, 0, 0) };
    const f = 1 / Math.sqrt(5 + 0.5);
    const { values } = await first('layerNorm', { x, ...norm }, { epsilon: 0.5 });
    expect(values).toEqual(rounded([-3 * f, 10 - f, f, 6 * f, 0, 10, 0, 0]));
  });

  test('addRmsNorm gives the norm of the sum, and the sum', async () => {
    const [normed, sum] = await run(
      'addRmsNorm',
      { x: float([1, 2], 1, 1), residual: float([1, 2], 2, 3), weight: float([2], 2, 1) },
      { epsilon: 0.5 },
    );
    expect(sum).toEqual(float([1, 2], 3, 4));
    expect(normed!.data[0]).toBeCloseTo(6 / Math.sqrt(13), 6);
    expect(normed!.data[1]).toBeCloseTo(4 / Math.sqrt(13), 6);
  });
});

describe('fusedMoe', () => {
  // Three experts, hidden 2, intermediate 1: gate = x0, up = x1, then out = (e, 10 * e) * active for expert e = 1, 2, 3.
  const w13 = float([3, 2, 2], 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1);
  const w2 = float([3, 2, 1], 1, 10, 2, 20, 3, 30);
  const x = float([1, 2], 2, 3);
  const active = (weight: number): number => 2 * weight * sigmoid(2 * weight) * 3 * weight;

  test('the chosen expert gets the input times the sigmoid of its logit', async () => {
    const routerLogits = float([1, 3], -1, 0.5, 0.25);
    const out = active(sigmoid(0.5));
    const { values } = await first('fusedMoe', { x, routerLogits, w13, w2 }, { topK: 1 });
    expect(values[0]).toBeCloseTo(2 * out, 4);
    expect(values[1]).toBeCloseTo(20 * out, 4);
  });

  test('two experts are added', async () => {
    const routerLogits = float([1, 3], -1, 0.5, 0.25);
    const out = 2 * active(sigmoid(0.5)) + 3 * active(sigmoid(0.25));
    const { values } = await first('fusedMoe', { x, routerLogits, w13, w2 }, { topK: 2 });
    expect(values[0]).toBeCloseTo(out, 4);
    expect(values[1]).toBeCloseTo(10 * out, 4);
  });

  test('a share of the softmax multiplies the output: of all experts, or of the chosen ones', async () => {
    const routerLogits = float([1, 3], Math.log(2), Math.log(5), Math.log(3));
    const outputs = async (routing: string, topK: number) =>
      (await first('fusedMoe', { x, routerLogits, w13, w2 }, { topK, routing })).values[0];
    expect(await outputs('softmax', 1)).toBeCloseTo(0.5 * 2 * active(1), 4);
    expect(await outputs('softmax', 2)).toBeCloseTo((0.5 * 2 + 0.3 * 3) * active(1), 4);
    expect(await outputs('softmaxOfChosen', 1)).toBeCloseTo(2 * active(1), 4);
    expect(await outputs('softmaxOfChosen', 2)).toBeCloseTo(((5 / 8) * 2 + (3 / 8) * 3) * active(1), 4);
  });

  test('biases are those of the chosen expert, and the activation may be clamped', async () => {
    const routerLogits = float([1, 3], 0, 1, 0);
    const biases = { w13Bias: float([3, 2], 9, 9, 1, -1, 9, 9), w2Bias: float([3, 2], 9, 9, 0.5, 7, 9, 9) };
    const activation = { kind: 'swigluOai', alpha: 1.5, limit: 2.5 };
    const { values } = await first(
      'fusedMoe',
      { x, routerLogits, w13, w2, ...biases },
      { topK: 1, routing: 'softmaxOfChosen', activation },
    );
    const out = 2.5 * sigmoid(1.5 * 2.5) * (2 + 1); // gate 2 + 1, clamped; up 3 - 1
    expect(values[0]).toBeCloseTo(2 * out + 0.5, 4);
    expect(values[1]).toBeCloseTo(20 * out + 7, 4);
  });

  test('a tie goes to the lower expert, token by token', async () => {
    const routerLogits = float([2, 3], 0, 7, 7, 5, 0, 5);
    const { values } = await first('fusedMoe', { x: float([2, 2], 2, 3, 2, 3), routerLogits, w13, w2 }, { topK: 1 });
    expect(values[0]).toBeCloseTo(2 * active(sigmoid(7)), 4);
    expect(values[2]).toBeCloseTo(active(sigmoid(5)), 4);
  });
});

describe('rotaryEmbedding', () => {
  const cos = float([3, 1], 1, 0, -1);
  const sin = float([3, 1], 0, 1, 0);

  test('turns neighbouring pairs of each head by the position', async () => {
    // Angles 0, 90 and 180 degrees.
    const x = float([1, 3, 4], 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4);
    const positions = int64([1, 3], 0, 1, 2);
    const { values } = await first('rotaryEmbedding', { x, positions, cos, sin }, { numHeads: 2, headDim: 2 });
    expect(values).toEqual([1, 2, 3, 4, -2, 1, -4, 3, -1, -2, -3, -4]);
  });

  test('pairs are neighbours, or the halves of a head where asked for', async () => {
    const x = float([1, 1, 4], 1, 2, 3, 4);
    const tables = { cos: float([1, 2], 0, 1), sin: float([1, 2], 1, 0) };
    const { values } = await first('rotaryEmbedding', { x, positions: int64([1, 1], 0), ...tables }, { numHeads: 1, headDim: 4 });
    expect(values).toEqual([-2, 1, 3, 4]);
    const halves = await first(
      'rotaryEmbedding',
      { x, positions: int64([1, 1], 0), ...tables },
      { numHeads: 1, headDim: 4, interleaved: false },
    );
    expect(halves.values).toEqual([-3, 2, 1, 4]);
  });

  test('elements past the rotated part stay', async () => {
    const x = float([1, 1, 8], 1, 2, 3, 4, 5, 6, 7, 8);
    const inputs = { x, positions: int64([1, 1], 1), cos, sin };
    const rotate = (more: object) => first('rotaryEmbedding', inputs, { numHeads: 2, headDim: 4, rotaryDim: 2, ...more });
    for (const interleaved of [true, false]) expect((await rotate({ interleaved })).values).toEqual([-2, 1, 3, 4, -6, 5, 7, 8]);
  });

  test('a position past the table is refused', async () => {
    const inputs = { x: float([1, 1, 2], 1, 2), positions: int64([1, 1], 3), cos, sin };
    await expect(run('rotaryEmbedding', inputs, { numHeads: 1, headDim: 2 })).rejects.toThrow('Position 3 is outside of a table for 3');
  });
});

describe('selfAttention', () => {
  test('each head weighs the values of all tokens, later ones too', async () => {
    // Scores ln 3 and 0 give weights 3/4 and 1/4; head 1 has equal scores.
    const query = float([1, 2, 2], 1, 0, 0, 0);
    const key = float([1, 2, 2], Math.log(3) / 2, 1, 0, 1);
    const value = float([1, 2, 2], 8, 1, 4, 3);
    const { values } = await first('selfAttention', { query, key, value }, { numHeads: 2, headDim: 1, scale: 2 });
    expect(values).toEqual([7, 2, 6, 2]);
  });

  test('sequences of a batch do not see each other', async () => {
    const zero = float([2, 2, 1], 0, 0, 0, 0);
    const value = float([2, 2, 1], 1, 3, 10, 30);
    const { values } = await first('selfAttention', { query: zero, key: zero, value }, { numHeads: 1, headDim: 1, scale: 1 });
    expect(values).toEqual([2, 2, 20, 20]);
  });
});
