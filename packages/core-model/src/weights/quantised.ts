import { aligned, fromBfloat16 } from '@graft/graph';
import type { CheckpointTensor } from './checkpoint.ts';
import { at, CheckpointCorruptError, CheckpointDTypeError } from './errors.ts';
import type { FileBytes } from './file-bytes.ts';
import { float8Table } from './half-precision.ts';
import { sourceType } from './quantize.ts';
import { isObject } from './strict-json.ts';

type Tensors = ReadonlyMap<string, CheckpointTensor>;
type Json = Readonly<Record<string, unknown>>;

/**
 * A way in which safetensors are quantised, by the `quant_method` of config.json's `quantization_config`. A layer's quantised tensors appear as the one tensor that an
 * unquantised checkpoint has, in blocks that `convert` reads.
 */
export type Quantisation = (config: Json, tensors: Tensors, where: string) => Map<string, CheckpointTensor>;

/** A matrix `[rows, columns]` on a grid: `scale * (quant - zero)`, with a scale and a zero point for each row and group of `groupSize` columns. */
interface Grid {
  readonly rows: number;
  readonly columns: number;
  readonly groupSize: number;
  readonly bits: 4 | 8;
  /** Whether every zero point is 2 ** (bits - 1). */
  readonly isSymmetric: boolean;
  quant(row: number, column: number): number;
  scale(row: number, group: number): number;
  zero(row: number, group: number): number;
  /** The group of a column, where it is not `column / groupSize`. */
  readonly groupOf?: Int32Array | undefined;
}

const run = 32;

/** A tensor that is computed from others when it is read. */
function view(
  source: CheckpointTensor,
  key: string,
  shape: readonly number[],
  dtype: string,
  fill: (element: number, run: DataView) => void,
): CheckpointTensor {
  const { elements, bytes } = sourceType(dtype, at(source.file.path, key));
  const runBytes = (run / elements) * bytes;
  const byteLength = (shape.reduce((all, dim) => all * dim, 1) / elements) * bytes;
  const file: FileBytes = {
    path: source.file.path,
    byteLength,
    read(offset, length) {
      const result = new Uint8Array(Math.ceil(length / runBytes) * runBytes);
      const first = Math.floor(offset / runBytes);
      if (first * runBytes !== offset)
        throw new CheckpointDTypeError('A quantised matrix can be cut between runs of 32 elements only.', at(source.file.path, key));
      for (let i = 0; i * runBytes < result.length; i++) fill((first + i) * run, new DataView(result.buffer, i * runBytes, runBytes));
      return result.subarray(0, length);
    },
    close() {},
  };
  return { key, dtype, shape, file, offset: 0, byteLength };
}

/** @param open reads the source tensors when the first run is needed: only the matrix that is being read is in memory. */
function gridView(
  source: CheckpointTensor,
  key: string,
  facts: Pick<Grid, 'rows' | 'columns' | 'groupSize' | 'bits' | 'isSymmetric'>,
  open: () => Grid,
): CheckpointTensor {
  const { rows, columns, groupSize, bits } = facts;
  const isNarrow = facts.isSymmetric && bits === 4;
  if (columns % run !== 0)
    throw new CheckpointDTypeError(
      `The matrix has ${columns} columns; quantised ones need a multiple of ${run}.`,
      at(source.file.path, key),
    );
  const isGrouped = groupSize % run === 0;
  const dtype = isGrouped ? (isNarrow ? 'GRID4_SYMMETRIC' : `GRID${bits}`) : 'F32';
  const grid = lastOpened(open);
  return view(source, key, [rows, columns], dtype, (element, bytes) => {
    const { quant, scale, zero, groupOf } = grid();
    const [row, first] = [Math.floor(element / columns), element % columns];
    if (!isGrouped || groupOf !== undefined) {
      for (let i = 0; i < run; i++) {
        const group = groupOf?.[first + i] ?? Math.floor((first + i) / groupSize);
        const value = scale(row, group) * (quant(row, first + i) - zero(row, group));
        bytes.setFloat32(4 * i, value, true);
      }
      return;
    }
    const group = Math.floor(first / groupSize);
    const d = scale(row, group);
    bytes.setFloat32(0, d, true);
    if (!isNarrow) bytes.setFloat32(4, -zero(row, group) * d, true);
    const start = isNarrow ? 4 : 8;
    if (bits === 8) for (let i = 0; i < run; i++) bytes.setUint8(start + i, quant(row, first + i));
    else for (let i = 0; i < 16; i++) bytes.setUint8(start + i, quant(row, first + i) | (quant(row, first + 16 + i) << 4));
  });
}

let opened: { open: () => unknown; value: unknown } | null = null;

/** The value of the last `open` is kept, and no other. */
function lastOpened<T>(open: () => T): () => T {
  return () => {
    if (opened?.open !== open) opened = { open, value: open() };
    return opened!.value as T;
  };
}

function bytesOf({ file, offset, byteLength }: CheckpointTensor): Uint8Array {
  return file.read(offset, byteLength);
}

/** Scales of any float type, in float32. */
function floatsOf(tensor: CheckpointTensor): Float32Array {
  if (tensor.dtype === 'BF16') return fromBfloat16(aligned(bytesOf(tensor), Uint16Array));
  const where = at(tensor.file.path, tensor.key);
  return sourceType(tensor.dtype, where).decode(bytesOf(tensor), { where, firstElement: 0 });
}

const wordsOf = (tensor: CheckpointTensor): Uint32Array => aligned(bytesOf(tensor), Uint32Array);

/** The layers with a tensor of this ending, each with its other tensors by their endings. Other tensors stay as they are. */
function eachLayer(
  tensors: Tensors,
  ending: string,
  endings: readonly string[],
  make: (name: string, main: CheckpointTensor, part: (ending: string) => CheckpointTensor | null) => CheckpointTensor | null,
) {
  const result = new Map(tensors);
  for (const [key, main] of tensors) {
    if (!key.endsWith(ending)) continue;
    const name = key.slice(0, -ending.length);
    const made = make(name, main, (other) => tensors.get(name + other) ?? null);
    if (made === null) continue;
    for (const other of [ending, ...endings]) result.delete(name + other);
    result.set(made.key, made);
  }
  return result;
}

function need(part: CheckpointTensor | null, name: string, main: CheckpointTensor): CheckpointTensor {
  if (part !== null) return part;
  throw new CheckpointCorruptError(`The quantised tensor has no ${JSON.stringify(name)} beside it.`, at(main.file.path, main.key));
}

function expectShape(tensor: CheckpointTensor, expected: readonly number[], method: string): void {
  if (String(tensor.shape) === String(expected)) return;
  const what = `The shape is [${tensor.shape.join(', ')}], and the quantization_config "${method}" needs [${expected.join(', ')}] here.`;
  throw new CheckpointCorruptError(what, at(tensor.file.path, tensor.key));
}

function bitsOf(config: Json, key: string, where: string): 4 | 8 {
  const bits = config[key];
  if (bits === 4 || bits === 8) return bits;
  throw new CheckpointDTypeError(
    `Weights of ${JSON.stringify(bits ?? null)} bits cannot be read; 4 and 8 can.`,
    `${where}, key "quantization_config.${key}"`,
  );
}

/** The columns of a group: -1 and null stand for whole rows. */
const groupSizeOf = (size: unknown, columns: number): number => (typeof size === 'number' && size > 0 ? Math.min(size, columns) : columns);

/** GPTQ: rows of the matrix are columns of the words, which hold neighbours in the input. `[in / 8, out]`; zero points are stored less one. */
const gptq: Quantisation = (config, tensors, where) => {
  const bits = bitsOf(config, 'bits', where);
  const [perWord, mask] = [32 / bits, 2 ** bits - 1];
  const less = config['checkpoint_format'] === 'gptq_v2' ? 0 : 1;
  return eachLayer(tensors, '.qweight', ['.qzeros', '.scales', '.g_idx'], (name, main, part) => {
    const [words = 0, rows = 0] = main.shape;
    const columns = words * perWord;
    const groupSize = groupSizeOf(config['group_size'], columns);
    const [zeros, scales] = [need(part('.qzeros'), 'qzeros', main), need(part('.scales'), 'scales', main)];
    const groups = Math.ceil(columns / groupSize);
    expectShape(scales, [groups, rows], 'gptq');
    expectShape(zeros, [groups, rows / perWord], 'gptq');
    const index = part('.g_idx');
    const groupOf = index === null ? undefined : aligned(bytesOf(index), Int32Array);
    const isOrdered = groupOf?.every((group, column) => group === Math.floor(column / groupSize)) ?? true;
    const facts = { rows, columns, groupSize: isOrdered ? groupSize : 1, bits, isSymmetric: false };
    return gridView(main, `${name}.weight`, facts, () => {
      const [quants, zeroWords, d] = [wordsOf(main), wordsOf(zeros), floatsOf(scales)];
      const zeroRow = rows / perWord;
      return {
        ...facts,
        groupOf: isOrdered ? undefined : groupOf,
        quant: (row, column) => (quants[Math.floor(column / perWord) * rows + row]! >>> (bits * (column % perWord))) & mask,
        scale: (row, group) => d[group * rows + row]!,
        zero: (row, group) => ((zeroWords[group * zeroRow + Math.floor(row / perWord)]! >>> (bits * (row % perWord))) & mask) + less,
      };
    });
  });
};

/** Where AWQ keeps the eight neighbours of a word. */
const awqPlaces = [0, 4, 1, 5, 2, 6, 3, 7];

/** AWQ in its "gemm" form: words hold neighbours in the output, in an order of their own. `[in, out / 8]`. */
const awq: Quantisation = (config, tensors, where) => {
  if (bitsOf(config, 'bits', where) !== 4 || !['gemm', undefined].includes(config['version'] as string | undefined))
    throw new CheckpointDTypeError('Of AWQ, 4 bits in the form "gemm" can be read.', `${where}, key "quantization_config"`);
  return eachLayer(tensors, '.qweight', ['.qzeros', '.scales'], (name, main, part) => {
    const [columns = 0, words = 0] = main.shape;
    const rows = words * 8;
    const groupSize = groupSizeOf(config['group_size'], columns);
    const [zeros, scales] = [need(part('.qzeros'), 'qzeros', main), need(part('.scales'), 'scales', main)];
    const groups = Math.ceil(columns / groupSize);
    expectShape(scales, [groups, rows], 'awq');
    expectShape(zeros, [groups, words], 'awq');
    const facts = { rows, columns, groupSize, bits: 4 as const, isSymmetric: false };
    return gridView(main, `${name}.weight`, facts, () => {
      const [quants, zeroWords, d] = [wordsOf(main), wordsOf(zeros), floatsOf(scales)];
      const at = (all: Uint32Array, line: number, row: number): number =>
        (all[line * words + (row >> 3)]! >>> (4 * awqPlaces[row & 7]!)) & 15;
      return {
        ...facts,
        quant: (row, column) => at(quants, column, row),
        scale: (row, group) => d[group * rows + row]!,
        zero: (row, group) => at(zeroWords, group, row),
      };
    });
  });
};

/** compressed-tensors: `pack-quantized` (whole numbers in words, along the input) and float8 with a scale a tensor, a row or a block. */
const compressedTensors: Quantisation = (config, tensors, where) => {
  const groups = isObject(config['config_groups']) ? Object.values(config['config_groups']) : [];
  const weights = groups.map((group) => (isObject(group) ? group['weights'] : null)).filter(isObject);
  const [first] = weights;
  const refuse = (what: string): never => {
    throw new CheckpointDTypeError(what, `${where}, key "quantization_config"`);
  };
  if (first === undefined || new Set(weights.map((each) => JSON.stringify(each))).size > 1)
    return refuse('Of compressed-tensors, one scheme for all layers can be read.');
  if (first['type'] === 'float') return float8(config, tensors, where);
  const bits = bitsOf(first, 'num_bits', where);
  const [perWord, mask] = [32 / bits, 2 ** bits - 1];
  return eachLayer(
    tensors,
    '.weight_packed',
    ['.weight_scale', '.weight_shape', '.weight_zero_point', '.weight_g_idx'],
    (name, main, part) => {
      const shape = need(part('.weight_shape'), 'weight_shape', main);
      const [rows = 0, columns = 0] = Array.from(aligned(bytesOf(shape), BigInt64Array), Number);
      const scales = need(part('.weight_scale'), 'weight_scale', main);
      const zeros = part('.weight_zero_point');
      const words = Math.ceil(columns / perWord);
      expectShape(main, [rows, words], 'compressed-tensors');
      if (part('.weight_g_idx') !== null) refuse('Of compressed-tensors, groups in the order of the columns can be read.');
      const count = scales.shape[1] ?? 1;
      const facts = { rows, columns, groupSize: columns / count, bits, isSymmetric: zeros === null };
      return gridView(main, `${name}.weight`, facts, () => {
        const [quants, d, zeroWords] = [wordsOf(main), floatsOf(scales), zeros === null ? null : wordsOf(zeros)];
        const zeroAt = (row: number, group: number): number =>
          (zeroWords![Math.floor(row / perWord) * count + group]! >>> (bits * (row % perWord))) & mask;
        return {
          ...facts,
          quant: (row, column) => (quants[row * words + Math.floor(column / perWord)]! >>> (bits * (column % perWord))) & mask,
          scale: (row, group) => d[row * count + group]!,
          zero: zeroWords === null ? () => 2 ** (bits - 1) : zeroAt,
        };
      });
    },
  );
};

/** Float8 (E4M3) with scales of the whole tensor, of a row, or of a block (`weight_block_size`); decoded to float32, which alone is as fine near zero. */
const float8: Quantisation = (_, tensors) => {
  const result = new Map(tensors);
  for (const [key, main] of tensors) {
    if (main.dtype !== 'F8_E4M3') continue;
    const name = ['_scale_inv', '_scale'].map((ending) => key + ending).find((each) => tensors.has(each));
    const scales = need(tensors.get(name ?? '') ?? null, `${key}_scale`, main);
    const [rows = 1, columns = 1] = main.shape;
    const [down, across] = [scales.shape[0] ?? 1, scales.shape[1] ?? 1];
    const [height, width] = [Math.ceil(rows / down), Math.ceil(columns / across)];
    const open = lastOpened(() => ({ bytes: bytesOf(main), d: floatsOf(scales), values: float8Table() }));
    result.delete(name!);
    for (const other of ['input_scale', 'input_zero_point']) result.delete(key.replace(/weight$/, other));
    result.set(
      key,
      view(main, key, main.shape, 'F32', (element, target) => {
        const { bytes, d, values } = open();
        for (let i = 0; i < run && element + i < bytes.length; i++) {
          const [row, column] = [Math.floor((element + i) / columns), (element + i) % columns];
          target.setFloat32(4 * i, values[bytes[element + i]!]! * d[Math.floor(row / height) * across + Math.floor(column / width)]!, true);
        }
      }),
    );
  }
  return result;
};

/** MXFP4: blocks of 32 values of 4 bits with a shared exponent, in `NAME_blocks [..., groups, 16]` and `NAME_scales [..., groups]`. */
const mxfp4: Quantisation = (_, tensors) =>
  eachLayer(tensors, '_blocks', ['_scales'], (name, main, part) => {
    const scales = need(part('_scales'), `${name}_scales`, main);
    const [groups = 0] = main.shape.slice(-2);
    const shape = [...main.shape.slice(0, -2), groups * run];
    expectShape(scales, main.shape.slice(0, -1), 'mxfp4');
    const open = lastOpened(() => ({ blocks: bytesOf(main), exponents: bytesOf(scales) }));
    return view(main, `${name}_blocks`, shape, 'MXFP4', (element, target) => {
      const { blocks, exponents } = open();
      const block = element / run;
      target.setUint8(0, exponents[block]!);
      const nibble = (i: number): number => (blocks[block * 16 + (i >> 1)]! >> (4 * (i & 1))) & 15; // neighbours share a byte here
      for (let i = 0; i < 16; i++) target.setUint8(1 + i, nibble(i) | (nibble(16 + i) << 4));
    });
  });

/** By `quant_method`. */
export const quantisations: Readonly<Record<string, Quantisation>> = {
  gptq,
  awq,
  'compressed-tensors': compressedTensors,
  fp8: float8,
  mxfp4,
};
