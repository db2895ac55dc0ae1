import { describe, expect, test } from 'vitest';
import { NotCapturingError, OpInputError, ShapeError } from '../errors.ts';
import { GraphRecorder, type TensorType } from '../graph-recorder.ts';
import { Dim, dimsOf, formatDims } from '../shape.ts';
import type { SymbolicTensor } from '../tensor.ts';
import type { OpFacts } from './define-op.ts';
import { type OpName, ops } from './index.ts';

const batch = Dim.symbol('batch');
const sequence = Dim.symbol('sequence');
type Shape = readonly (number | Dim)[];

const float = (...dims: Shape): TensorType => ({ dtype: 'float32', dims: dimsOf(dims) });
const int64 = (...dims: Shape): TensorType => ({ dtype: 'int64', dims: dimsOf(dims) });
const int32 = (...dims: Shape): TensorType => ({ dtype: 'int32', dims: dimsOf(dims) });
const bool = (...dims: Shape): TensorType => ({ dtype: 'bool', dims: dimsOf(dims) });

/** Calls an op as `forward` does; what comes out, as text. */
function call(name: OpName, types: Record<string, TensorType | null>, attributes: object = {}): string[] {
  const recorder = new GraphRecorder(ops);
  const tensors = Object.fromEntries(
    Object.entries(types).map(([input, type]) => [input, type === null ? null : recorder.input(input, type.dtype, type.dims)]),
  );
  const op = ops[name] as unknown as (inputs: object, attributes: object) => SymbolicTensor | SymbolicTensor[];
  const result = recorder.run(() => op(tensors, attributes));
  return [result].flat().map((tensor) => `${tensor.dtype}${formatDims(tensor.dims)}`);
}

const heads = { numHeads: 4, numKvHeads: 2, headDim: 8, scale: 1 };
const attentionInputs = {
  query: float(batch, sequence, 32),
  key: float(batch, sequence, 16),
  value: float(batch, sequence, 16),
  keyCache: float(batch, 2, Dim.symbol('@'), 8),
  valueCache: float(batch, 2, Dim.symbol('@'), 8),
  queryStart: int32(batch),
  sequenceLengths: int32(batch),
  totalLength: int32(),
};
const moeInputs = { x: float(sequence, 8), routerLogits: float(sequence, 4), w13: float(4, 12, 8), w2: float(4, 8, 6) };
const imageInputs = { query: float(batch, 5, 32), key: float(batch, 5, 32), value: float(batch, 5, 32) };
const replaceInputs = { x: float(batch, sequence, 8), rows: float(Dim.symbol('rows'), 8), indices: int64(batch, sequence) };
const partTables = { cos: float(99, 2), sin: float(99, 2) };
const rotaryInputs = { x: float(batch, sequence, 32), positions: int64(batch, sequence), cos: float(99, 4), sin: float(99, 4) };

describe('an op infers its output', () => {
  test.each<[OpName, Record<string, TensorType | null>, object, string[]]>([
    ['add', { a: float(batch, sequence, 8), b: float(8) }, {}, ['float32[batch, sequence, 8]']],
    ['mul', { a: float(batch, sequence, 8), b: float(batch, sequence, 1) }, {}, ['float32[batch, sequence, 8]']],
    ['addScalar', { x: int64(batch) }, { value: 2 }, ['int64[batch]']],
    ['mulScalar', { x: float(batch) }, { value: 0.5 }, ['float32[batch]']],
    ['divScalar', { x: float(batch) }, { value: 3 }, ['float32[batch]']],
    ['floor', { x: float(2) }, {}, ['float32[2]']],
    ['log', { x: float(2) }, {}, ['float32[2]']],
    ['sigmoid', { x: float(2) }, {}, ['float32[2]']],
    ['cast', { x: int64(batch) }, { dtype: 'float32' }, ['float32[batch]']],
    ['siluAndMul', { x: float(batch, 16) }, {}, ['float32[batch, 8]']],
    ['geluTanhAndMul', { x: float(batch, 16) }, {}, ['float32[batch, 8]']],
    ['swigluOaiAndMul', { x: float(batch, 16) }, { alpha: 1, limit: 7 }, ['float32[batch, 8]']],
    ['linear', { x: float(batch, sequence, 8), weight: float(3, 8), bias: null }, {}, ['float32[batch, sequence, 3]']],
    ['embedding', { ids: int64(batch, sequence), weight: float(99, 8) }, {}, ['float32[batch, sequence, 8]']],
    ['rmsNorm', { x: float(batch, 8), weight: null }, { epsilon: 1e-5 }, ['float32[batch, 8]']],
    ['addRmsNorm', { x: float(batch, 8), residual: float(batch, 8), weight: float(8) }, { epsilon: 1 }, Array(2).fill('float32[batch, 8]')],
    ['reshape', { x: float(batch, sequence, 32) }, { dims: [batch, sequence, 4, 8] }, ['float32[batch, sequence, 4, 8]']],
    ['reshape', { x: float(batch, sequence, 32) }, { dims: [batch.times(sequence), 32] }, ['float32[batch*sequence, 32]']],
    ['split', { x: int64(batch, 6) }, { sizes: [1, 2, 3] }, ['int64[batch, 1]', 'int64[batch, 2]', 'int64[batch, 3]']],
    ['gatherRows', { x: float(batch, sequence, 8), indices: int64(Dim.symbol('rows')) }, {}, ['float32[rows, 8]']],
    ['zerosLike', { x: int32(batch, 3) }, {}, ['int32[batch, 3]']],
    ['fusedMoe', moeInputs, { topK: 4 }, ['float32[sequence, 8]']],
    ['rotaryEmbedding', rotaryInputs, { numHeads: 4, headDim: 8 }, ['float32[batch, sequence, 32]']],
    ['rotaryEmbedding', { ...rotaryInputs, ...partTables }, { numHeads: 4, headDim: 8, rotaryDim: 4 }, ['float32[batch, sequence, 32]']],
    ['attention', attentionInputs, heads, ['float32[batch, sequence, 32]']],
    ['attention', { ...attentionInputs, sinks: float(4) }, { ...heads, window: 3, softcap: 50 }, ['float32[batch, sequence, 32]']],
    ['gelu', { x: float(batch, 2) }, {}, ['float32[batch, 2]']],
    ['layerNorm', { x: float(batch, 8), weight: float(8), bias: float(8) }, { epsilon: 1e-5 }, ['float32[batch, 8]']],
    ['selfAttention', imageInputs, { numHeads: 4, headDim: 8, scale: 1 }, ['float32[batch, 5, 32]']],
    ['permute', { x: int64(batch, 2, 3) }, { axes: [2, 0, 1] }, ['int64[3, batch, 2]']],
    ['concat', { a: float(batch, 2, 3), b: float(batch, 1, 3) }, { axis: 1 }, ['float32[batch, 3, 3]']],
    ['slice', { x: float(batch, 5) }, { axis: 1, start: 1, end: 5 }, ['float32[batch, 4]']],
    ['replaceRows', replaceInputs, {}, ['float32[batch, sequence, 8]']],
  ])('%s', (name, types, attributes, expected) => {
    expect(call(name, types, attributes)).toEqual(expected);
  });
});

describe('an op refuses wrong inputs in its own words', () => {
  test.each<[OpName, Record<string, TensorType | null>, object, string]>([
    ['add', { a: float(batch), b: float(sequence) }, {}, '[batch] and [sequence] do not broadcast'],
    ['add', { a: float(2), b: int64(2) }, {}, 'float32 and int64'],
    ['mul', { a: bool(2), b: bool(2) }, {}, 'bool'],
    ['mul', { a: float(2) }, {}, '"b" is missing'],
    ['add', { a: float(2), b: float(2), c: float(2) }, {}, 'Input "c" is unknown'],
    ['addScalar', { x: int64(2) }, { value: 0.5 }, 'int64 and the value 0.5'],
    ['mulScalar', { x: float(2) }, { value: '3' }, 'value: '],
    ['mulScalar', { x: float(2) }, { value: 3, extra: 1 }, 'extra'],
    ['divScalar', { x: int64(2) }, { value: 2 }, 'expected float32'],
    ['floor', { x: int64(2) }, {}, 'expected float32'],
    ['log', { x: int64(2) }, {}, 'expected float32'],
    ['sigmoid', { x: bool(2) }, {}, 'expected float32'],
    ['cast', { x: float(2) }, { dtype: 'bfloat16' }, 'dtype'],
    ['siluAndMul', { x: float() }, {}, 'no axis'],
    ['siluAndMul', { x: float(7) }, {}, 'divided by 2'],
    ['linear', { x: float(batch, 8), weight: float(3, 7) }, {}, 'size 8, expected 7'],
    ['linear', { x: float(batch, 8), weight: float(8) }, {}, 'rank 1'],
    ['linear', { x: float(batch, 8), weight: float(3, 8), bias: float(4) }, {}, 'size 4, expected 3'],
    ['embedding', { ids: int32(batch), weight: float(9, 8) }, {}, 'expected int64'],
    ['rmsNorm', { x: float(batch, 8), weight: float(7) }, { epsilon: 1 }, 'size 7, expected 8'],
    ['rmsNorm', { x: float(batch, 8) }, { epsilon: 0 }, 'epsilon'],
    ['addRmsNorm', { x: float(8), residual: float(7), weight: float(8) }, { epsilon: 1 }, 'residual'],
    ['reshape', { x: float(batch, 8) }, { dims: [sequence, 8] }, 'cannot become'],
    ['reshape', { x: float(batch, 8) }, { dims: [-1] }, 'dims'],
    ['split', { x: float(6) }, { sizes: [1, 2] }, 'add up to 3'],
    ['split', { x: float(batch) }, { sizes: [1] }, 'add up to 1'],
    ['gatherRows', { x: float(6, 2), indices: int32(3) }, {}, 'int64 [count]'],
    ['fusedMoe', moeInputs, { topK: 5 }, 'topK is 5, there are 4'],
    ['fusedMoe', { ...moeInputs, routerLogits: float(sequence, 3) }, { topK: 1 }, 'router logits'],
    ['fusedMoe', { ...moeInputs, w13Bias: float(4, 6) }, { topK: 1 }, 'size 6, expected 12'],
    ['fusedMoe', { ...moeInputs, w2Bias: float(3, 8) }, { topK: 1 }, 'size 3, expected 4'],
    ['fusedMoe', moeInputs, { topK: 1, routing: 'other' }, 'routing'],
    ['swigluOaiAndMul', { x: float(8) }, { alpha: 1 }, 'limit'],
    ['fusedMoe', { ...moeInputs, w2: float(3, 8, 6) }, { topK: 1 }, 'w2 has size 3'],
    ['rotaryEmbedding', rotaryInputs, { numHeads: 3, headDim: 8 }, 'size 32, expected 24'],
    ['rotaryEmbedding', { ...rotaryInputs, positions: int32(batch, sequence) }, { numHeads: 4, headDim: 8 }, 'expected int64'],
    ['rotaryEmbedding', rotaryInputs, { numHeads: 4, headDim: 8, rotaryDim: 4 }, 'size 4, expected 2'],
    ['rotaryEmbedding', rotaryInputs, { numHeads: 4, headDim: 8, rotaryDim: 10 }, '10 elements of a head of 8'],
    ['rotaryEmbedding', rotaryInputs, { numHeads: 4, headDim: 7 }, '7 elements of a head of 7'],
    ['attention', { ...attentionInputs, sinks: float(2) }, heads, 'size 2, expected 4'],
    ['attention', attentionInputs, { ...heads, window: 0 }, 'window'],
    ['attention', attentionInputs, { ...heads, numKvHeads: 3 }, '4 heads cannot share 3'],
    ['attention', attentionInputs, { ...heads, headDim: 4 }, 'query'],
    ['attention', { ...attentionInputs, keyCache: float(1, 2, 9, 8) }, heads, 'batch'],
    ['attention', { ...attentionInputs, totalLength: int64() }, heads, '"totalLength" is int64'],
    ['gelu', { x: int64(2) }, {}, 'expected float32'],
    ['layerNorm', { x: float(8), weight: float(7), bias: float(8) }, { epsilon: 1 }, 'weight has size 7'],
    ['layerNorm', { x: float(8), weight: float(8), bias: float(7) }, { epsilon: 1 }, 'bias has size 7'],
    ['selfAttention', imageInputs, { numHeads: 3, headDim: 8, scale: 1 }, 'expected 24'],
    ['selfAttention', { ...imageInputs, key: float(batch, 4, 32) }, { numHeads: 4, headDim: 8, scale: 1 }, "selfAttention's key"],
    ['selfAttention', { ...imageInputs, value: float(5, 32) }, { numHeads: 4, headDim: 8, scale: 1 }, '"value" has rank 2'],
    ['permute', { x: float(2, 3) }, { axes: [0, 0] }, '[0, 0] is not an order of the 2 axes'],
    ['permute', { x: float(2, 3) }, { axes: [0] }, '[0] is not an order of the 2 axes'],
    ['concat', { a: float(batch, 2), b: float(batch, 2) }, { axis: 0 }, 'no static size'],
    ['concat', { a: float(1, 2), b: float(1, 3) }, { axis: 0 }, 'differ in more than axis 0'],
    ['concat', { a: float(2), b: int64(2) }, { axis: 0 }, 'float32 and int64'],
    ['slice', { x: float(batch, 2) }, { axis: 0, start: 0, end: 1 }, 'no static size'],
    ['slice', { x: float(3) }, { axis: 0, start: 1, end: 4 }, '1 to 4 is not a part'],
    ['slice', { x: float(3) }, { axis: 0, start: 2, end: 2 }, '2 to 2 is not a part'],
    ['replaceRows', { ...replaceInputs, indices: int64(sequence, batch) }, {}, 'one for each row'],
    ['replaceRows', { ...replaceInputs, indices: int32(batch, sequence) }, {}, 'int32[batch, sequence]'],
    ['replaceRows', { ...replaceInputs, rows: float(3, 7) }, {}, 'size 7, expected 8'],
    ['replaceRows', { ...replaceInputs, rows: float(8) }, {}, 'cannot stand in'],
  ])('%s %o %o', (name, types, attributes, words) => {
    expect(() => call(name, types, attributes)).toThrow(words);
    expect(() => call(name, types, attributes)).toThrow(
      expect.toSatisfy((error: unknown) => error instanceof OpInputError || error instanceof ShapeError),
    );
  });
});

test('batch and sequence stay apart although both are 1 in the end', () => {
  expect(() => call('add', { a: float(batch, 8), b: float(sequence, 8) })).toThrow('do not broadcast');
  expect(call('reshape', { x: float(batch, sequence, 8) }, { dims: [sequence, batch, 8] })).toEqual(['float32[sequence, batch, 8]']);
});

test('an op outside of a capture, and a tensor of another capture, are errors', () => {
  const recorder = new GraphRecorder(ops);
  const x = recorder.input('x', 'float32', dimsOf([2]));
  expect(() => ops.floor({ x })).toThrow(NotCapturingError);
  expect(() => new GraphRecorder(ops).run(() => ops.floor({ x }))).toThrow('belongs to another capture');
});

test('every op is registered under its own name and shares the facts that backends read', () => {
  for (const [name, op] of Object.entries(ops) as [string, OpFacts][]) {
    expect(op.name).toBe(name);
    expect(op.inPlaceOf.every((input) => op.inputs.includes(input))).toBe(true);
  }
  expect(
    Object.entries(ops)
      .filter(([, op]) => op.inPlaceOf.length > 0)
      .map(([name]) => name),
  ).toEqual(['attention']);
});
