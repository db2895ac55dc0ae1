import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { memoryStorage, type StorageFormat, toFloat32 } from '@graft/graph';
import { expect, test } from 'vitest';
import { openCheckpoint } from './checkpoint.ts';
import { failure, safetensorsOf, type TestTensor, temporaryFolder } from './checkpoint-files.fixture.ts';
import { encodeFloat16 } from './half-precision.ts';
import { convert, sourceType } from './quantize.ts';

const [rows, columns, groupSize] = [16, 64, 32];
const groups = columns / groupSize;
const quant = (row: number, column: number): number => (row * 5 + column * 3 + (row ^ column)) & 15;
const zero = (row: number, group: number): number => (3 * row + 7 * group + 1) & 15;
const scale = (row: number, group: number): number => 2 ** -(3 + ((row + group) % 5));
const element =
  (zeroOf = zero) =>
  (_: unknown, i: number) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const group = Math.floor(column / groupSize);
    return scale(row, group) * (quant(row, column) - zeroOf(row, group));
  };
const matrix = (zeroOf?: typeof zero) => Float32Array.from({ length: rows * columns }, element(zeroOf));

const float16 = (shape: number[], valueAt: (line: number, place: number) => number): TestTensor => {
  const values = Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => valueAt(Math.floor(i / shape[1]!), i % shape[1]!));
  return { dtype: 'F16', shape, data: new Uint8Array(encodeFloat16(values, { where: '', firstElement: 0 }).buffer) };
};

/** Words of eight 4-bit values; `valueAt` of the line and the place in it. */
function words(
  lines: number,
  places: number,
  valueAt: (line: number, place: number) => number,
  order = [0, 1, 2, 3, 4, 5, 6, 7],
): TestTensor {
  const all = new Uint32Array((lines * places) / 8);
  for (let line = 0; line < lines; line++)
    for (let place = 0; place < places; place++) {
      const word = line * (places / 8) + (place >> 3);
      all[word] = (all[word]! | (valueAt(line, place) << (4 * order[place & 7]!))) >>> 0;
    }
  return { dtype: 'I32', shape: [lines, places / 8], data: new Uint8Array(all.buffer) };
}

/** Neighbours in the output, in AWQ's order. */
const awqOrder = [0, 4, 1, 5, 2, 6, 3, 7];

/** Words of neighbours in the input, one line of words for eight of them. */
function gptqWords(order: (column: number) => number = (column) => column): TestTensor {
  const all = new Uint32Array((columns / 8) * rows);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      const word = (column >> 3) * rows + row;
      all[word] = (all[word]! | (quant(row, order(column)) << (4 * (column & 7)))) >>> 0;
    }
  return { dtype: 'I32', shape: [columns / 8, rows], data: new Uint8Array(all.buffer) };
}

const int32 = (values: number[]): TestTensor => ({
  dtype: 'I32',
  shape: [values.length],
  data: new Uint8Array(Int32Array.from(values).buffer),
});
const group = (name: string, tensors: Record<string, TestTensor>) =>
  Object.fromEntries(Object.entries(tensors).map(([key, value]) => [name + key, value]));
const scales = float16([groups, rows], (line, row) => scale(row, line));
const gptqParts = { '.qzeros': words(groups, rows, (line, row) => (zero(row, line) - 1) & 15), '.scales': scales };
const packed = {
  '.weight_packed': words(rows, columns, quant),
  '.weight_scale': float16([rows, groups], scale),
  '.weight_shape': { dtype: 'I64', shape: [2], data: new Uint8Array(BigInt64Array.from([BigInt(rows), BigInt(columns)]).buffer) },
};
const scheme = { weights: { num_bits: 4, type: 'int', strategy: 'group', group_size: groupSize } };

async function open(quantization: object, tensors: Record<string, TestTensor>) {
  const folder = temporaryFolder();
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ quantization_config: quantization }));
  writeFileSync(join(folder, 'model.safetensors'), safetensorsOf(tensors));
  return openCheckpoint(folder);
}

async function valuesOf(quantization: object, tensors: Record<string, TestTensor>, format: StorageFormat): Promise<Float32Array> {
  using checkpoint = await open(quantization, group('a', tensors));
  const { dtype, file, offset, byteLength, shape } = checkpoint.tensors.get('a.weight')!;
  expect([[...checkpoint.tensors.keys()], shape]).toEqual([['a.weight'], [rows, columns]]);
  const form = format === 'float32' ? format : (sourceType(dtype, '').form ?? 'float32');
  return toFloat32(memoryStorage(form, shape, convert(dtype, file.read(offset, byteLength), form, { where: '', firstElement: 0 })));
}

const reverse = (column: number): number => columns - 1 - column;
const wrapped = (row: number, index: number): number => ((zero(row, index) - 1) & 15) + 1; // a stored zero point is one less, in four bits
const cases: [string, object, Record<string, TestTensor>, Float32Array][] = [
  ['gptq', { quant_method: 'gptq', bits: 4, group_size: groupSize }, { '.qweight': gptqWords(), ...gptqParts }, matrix(wrapped)],
  [
    'gptq with its columns in another order',
    { quant_method: 'gptq', bits: 4, group_size: groupSize, desc_act: true },
    {
      '.qweight': gptqWords(),
      ...gptqParts,
      '.g_idx': int32(Array.from({ length: columns }, (_, column) => Math.floor(reverse(column) / groupSize))),
    },
    Float32Array.from({ length: rows * columns }, (_, i) => {
      const [row, column] = [Math.floor(i / columns), i % columns];
      const at = Math.floor(reverse(column) / groupSize);
      return scale(row, at) * (quant(row, column) - wrapped(row, at));
    }),
  ],
  [
    'awq',
    { quant_method: 'awq', bits: 4, group_size: groupSize, version: 'gemm' },
    {
      '.qweight': words(columns, rows, (column, row) => quant(row, column), awqOrder),
      '.qzeros': words(groups, rows, (line, row) => zero(row, line), awqOrder),
      '.scales': scales,
    },
    matrix(),
  ],
  ['compressed-tensors, symmetric', { quant_method: 'compressed-tensors', config_groups: { group_0: scheme } }, packed, matrix(() => 8)],
  [
    'compressed-tensors with zero points',
    { quant_method: 'compressed-tensors', config_groups: { group_0: scheme } },
    { ...packed, '.weight_zero_point': words16(groups) },
    matrix(),
  ],
];

/** Zero points, packed along the output. */
function words16(lines: number): TestTensor {
  const all = new Uint32Array((rows / 8) * lines);
  for (let row = 0; row < rows; row++)
    for (let line = 0; line < lines; line++)
      all[(row >> 3) * lines + line] = (all[(row >> 3) * lines + line]! | (zero(row, line) << (4 * (row & 7)))) >>> 0;
  return { dtype: 'I32', shape: [rows / 8, lines], data: new Uint8Array(all.buffer) };
}

test.each(cases)('%s is read as the matrix that it stands for, also in its own form', async (_, quantization, tensors, expected) => {
  expect(await valuesOf(quantization, tensors, 'float32')).toEqual(expected);
  expect(await valuesOf(quantization, tensors, 'int4b32')).toEqual(expected);
});

test('float8 in blocks is decoded with the scale of its block', async () => {
  const weight = {
    dtype: 'F8_E4M3',
    shape: [rows, columns],
    data: Uint8Array.from({ length: rows * columns }, (_, i) => (i % 120) | ((i & 1) << 7)),
  };
  const tensors = { '.weight': weight, '.weight_scale_inv': float16([2, 2], (down, across) => 1 + down + 2 * across) };
  const actual = await valuesOf({ quant_method: 'fp8', weight_block_size: [8, 32] }, tensors, 'float32');
  expect(actual[0b0111000]).toBe(1 * 3); // 1.0 in the second block of the first row: column 56
  expect(actual[9 * columns + 1]).toBe(-((1 + (((9 * columns + 1) % 120) & 7) / 8) * 2 ** ((((9 * columns + 1) % 120) >> 3) - 7)) * 2);
});

test.each([
  ['a method that is unknown', { quant_method: 'bitsandbytes' }, /bitsandbytes/],
  ['bits that are not read', { quant_method: 'gptq', bits: 3 }, /3 bits/],
  [
    'a scheme of several kinds',
    { quant_method: 'compressed-tensors', config_groups: { a: scheme, b: { weights: { num_bits: 8 } } } },
    /one scheme/,
  ],
  ['another form of AWQ', { quant_method: 'awq', bits: 4, version: 'gemv' }, /gemm/],
])('%s is refused by name', async (_, quantization, message) => {
  const { llama } = await import('../families/llama.ts');
  const error = await failure(async () => {
    using checkpoint = await open(quantization, { '.qweight': gptqWords(), ...gptqParts });
    llama.parseConfig(checkpoint.config);
  });
  expect(error.message).toMatch(message);
  expect(error.where).toContain('quantization_config');
});
