import {
  aligned,
  type BlockTypeName,
  blockTypeOf,
  fromBfloat16,
  partBytes,
  partsOf,
  quantBlock,
  type StorageFormat,
  type WeightStorage,
} from '@graft/graph';
import { BlockReader, type BlockType, blockTypes, UnpackedBlock } from './block-types.ts';
import { CheckpointCorruptError, CheckpointDTypeError, type Origin } from './errors.ts';
import { encodeBfloat16, encodeFloat16, float16Table } from './half-precision.ts';

export type Parts = Record<string, Uint8Array>;

/** An element type of checkpoints, in blocks of `elements` elements and `bytes` bytes; a plain type is a block of one. */
export interface SourceType {
  readonly elements: number;
  readonly bytes: number;
  /** The format that keeps its bytes as they are. */
  readonly own: StorageFormat;
  /** The smallest form that is faithful to a quantised type (docs/adr/0003); null for the other types. */
  readonly form: StorageFormat | null;
  /** The values in float32, rounded once. */
  decode(bytes: Uint8Array, origin: Origin): Float32Array;
  /** The same values in another format, which keeps the type's own grid; null where they are encoded anew. */
  direct(bytes: Uint8Array, format: StorageFormat, origin: Origin): Parts | null;
}

const plainType = (bytes: number, format: StorageFormat, decode: SourceType['decode']): SourceType => ({
  elements: 1,
  bytes,
  own: format,
  form: null,
  decode,
  direct: (data, to) => (to === format ? { data } : null),
});

/** The element types whose values can be read, by their names in files. */
export const sourceTypes: ReadonlyMap<string, SourceType> = new Map<string, SourceType>([
  ['F32', plainType(4, 'float32', (bytes) => aligned(bytes, Float32Array))],
  ['F16', plainType(2, 'float16', decodeFloat16)],
  ['BF16', plainType(2, 'bfloat16', (bytes) => fromBfloat16(aligned(bytes, Uint16Array)))],
  ...Object.entries(blockTypes).map(([name, type]): [string, SourceType] => [name, quantisedType(name, type)]),
]);

/** @throws CheckpointDTypeError when values of this type cannot be read. */
export function sourceType(dtype: string, where: string): SourceType {
  const type = sourceTypes.get(dtype);
  if (type === undefined) throw new CheckpointDTypeError(`Weights of dtype ${dtype} cannot be loaded.`, where);
  return type;
}

/**
 * Converts whole blocks of a tensor into the parts of a storage format (see `WeightStorage` for their layout).
 * Exact up to float32's rounding where the format can hold the source's grid. A grid with a minimum moves by at most half a step of int8b32's finer grid.
 * @throws CheckpointDTypeError for a dtype that cannot be loaded, CheckpointCorruptError for a scale or value that is not finite.
 */
export function convert(dtype: string, bytes: Uint8Array, format: StorageFormat, origin: Origin): Parts {
  const { decode, direct } = sourceType(dtype, origin.where);
  return direct(bytes, format, origin) ?? encode(decode(bytes, origin), format, origin);
}

/** The values of a storage in blocks of GGML. */
export function decodeBlocks({ format, parts }: WeightStorage): Float32Array {
  const type = sourceType(blockTypeOf(format)!, format);
  return type.decode(parts['blocks']!.read(), { where: format, firstElement: 0 });
}

/** Float32 values into a format, each block on its own. @throws CheckpointCorruptError, CheckpointDTypeError */
export function encode(values: Float32Array, format: StorageFormat, origin: Origin): Parts {
  if (format === 'float32') return { data: bytesOf(values) };
  if (format === 'bfloat16') return { data: bytesOf(encodeBfloat16(values)) };
  if (format === 'float16') return { data: bytesOf(encodeFloat16(values, origin)) };
  const fit = fits[format];
  if (fit === undefined) throw new CheckpointDTypeError(`Values of another type cannot become ${format}.`, origin.where);
  const target = new BlockParts(format, values.length);
  for (let to = 0; to < values.length; to += quantBlock) {
    refuseNonFinite(values, to, origin);
    fit(values, to, target, to);
  }
  return target.parts;
}

/** The arrays of a format in blocks. Zero points and offsets are empty where the format has none, and writing there does nothing. */
class BlockParts {
  readonly quants: Uint8Array;
  readonly scales: Float32Array;
  readonly zeroPoints: Uint8Array;
  readonly offsets: Float32Array;
  readonly parts: Parts;

  constructor(format: StorageFormat, elements: number) {
    const parts = Object.entries(partsOf(format, [elements])).map(([name, part]) => [name, new Uint8Array(partBytes(part))]);
    this.parts = Object.fromEntries(parts) as Parts;
    const { quants, scales, zeroPoints, offsets } = this.parts;
    this.quants = quants!;
    this.scales = new Float32Array(scales!.buffer);
    this.zeroPoints = zeroPoints ?? new Uint8Array();
    this.offsets = new Float32Array(offsets?.buffer ?? new ArrayBuffer(0));
  }
}

type WriteRun = (block: UnpackedBlock, first: number, target: BlockParts, to: number) => void;

function quantisedType(name: string, type: BlockType): SourceType {
  const { elements, bytes: size, grid } = type;
  const is4Bit = grid?.levels === 16;
  const writers: { readonly [F in StorageFormat]?: WriteRun } = {
    int8b32: (block, first, target, to) => asInt8(block, first, target, to, grid ?? { low: -128, levels: 256 }),
    ...(is4Bit && { int4b32o: (block, first, target, to) => asInt4(block, first, target, to, grid.low) }),
    ...(is4Bit && grid.low === -8 && { int4b32: (block, first, target, to) => asInt4(block, first, target, to, -8) }),
  };
  const each = (bytes: Uint8Array, origin: Origin, take: (block: UnpackedBlock, to: number) => void): void => {
    const block = new UnpackedBlock();
    const reader = new BlockReader(type, bytes, origin);
    for (let index = 0; index < bytes.byteLength / size; index++) {
      reader.unpack(index, block);
      take(block, index * elements);
    }
  };
  return {
    elements,
    bytes: size,
    own: `ggml.${name as BlockTypeName}`,
    form: is4Bit ? (grid.low === -8 ? 'int4b32' : 'int4b32o') : 'int8b32',
    decode(bytes, origin) {
      const values = new Float32Array((bytes.byteLength / size) * elements);
      each(bytes, origin, (block, to) => decodeRun(block, 0, elements, values, to));
      return values;
    },
    direct(bytes, format, origin) {
      if (format === `ggml.${name}`) return { blocks: bytes };
      const write = writers[format];
      if (write === undefined) return null;
      const target = new BlockParts(format, (bytes.byteLength / size) * elements);
      each(bytes, origin, (block, to) => {
        for (let first = 0; first < elements; first += quantBlock) write(block, first, target, to + first);
      });
      return target.parts;
    },
  };
}

function decodeRun({ quants, scales, mins }: UnpackedBlock, first: number, count: number, values: Float32Array, to: number): void {
  for (let i = 0; i < count; i++) {
    const group = (first + i) >> 4;
    values[to + i] = scales[group]! * quants[first + i]! + mins[group]!;
  }
}

function decodeFloat16(bytes: Uint8Array): Float32Array {
  const bits = aligned(bytes, Uint16Array);
  const table = float16Table();
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]!]!;
  return values;
}

const run = new Float32Array(quantBlock);

/**
 * A run of 32 with one scale d and no minimum is exact. With a minimum m it is `(k * q - z) * (d / k)`, where the zero point `z = -k * m / d` must be rounded
 * to a whole number: the k that rounds least is taken, and the run moves by at most d / 2k for the largest k. A run with two scales, and one whose z does not fit
 * a byte, is fitted anew: an error of at most 1/510 of its range.
 */
function asInt8(
  block: UnpackedBlock,
  first: number,
  target: BlockParts,
  to: number,
  { low, levels }: NonNullable<BlockType['grid']>,
): void {
  const { quants, scales, mins } = block;
  const group = first >> 4;
  const [d, m] = [scales[group]!, mins[group]!];
  const isOne = d === scales[group + 1]! && m === mins[group + 1]!;
  const zero = -(m + low * d) / d; // of the quants counted from `low`; NaN or infinite for d = 0
  const step = m === 0 ? 1 : bestStep(zero, Math.floor(255 / (levels - 1)));
  if (!isOne || step === 0) {
    decodeRun(block, first, quantBlock, run, 0);
    fitInt8(run, 0, target, to);
    return;
  }
  target.scales[to >> 5] = d / step;
  target.zeroPoints[to >> 5] = m === 0 ? 128 : Math.round(zero * step);
  const shift = m === 0 ? 128 : -low * step;
  for (let i = 0; i < quantBlock; i++) target.quants[to + i] = quants[first + i]! * step + shift;
}

/** `d * q + m` as `(q - z) * d + offset`, with the whole z nearest to -m / d. The remaining offset is small, so rounded activations change it little. */
function asInt4({ quants, scales, mins }: UnpackedBlock, first: number, target: BlockParts, to: number, low: number): void {
  const d = scales[first >> 4]!;
  const m = mins[first >> 4]! + low * d;
  const zero = d === 0 ? 0 : clamp(Math.round(-m / d), 15);
  target.scales[to >> 5] = d;
  target.zeroPoints[to >> 5] = zero;
  target.offsets[to >> 5] = m + zero * d;
  for (let i = 0; i < quantBlock; i += 2) target.quants[(to + i) >> 1] = (quants[first + i]! - low) | ((quants[first + i + 1]! - low) << 4);
}

/** The k in 1..most for which `k * offset` is nearest to a whole number in 0..255, in steps of 1 / k; 0 where no k is within half a step of `most`. */
function bestStep(offset: number, most: number): number {
  let best = 0;
  let smallest = 1 / (2 * most) + 1e-9;
  for (let step = most; step > 0; step--) {
    const zero = Math.round(offset * step);
    const error = Math.abs(offset - zero / step);
    if (!(zero >= 0 && zero <= 255) || !(error < smallest)) continue;
    best = step;
    smallest = error;
  }
  return best;
}

/** Writes 32 values from `from` on as the block whose elements begin at `to`. */
type FitBlock = (values: Float32Array, from: number, target: BlockParts, to: number) => void;
const fits: { readonly [F in StorageFormat]?: FitBlock } = {
  int8b32: fitInt8,
  int4b32: fitInt4,
  int4b32o: fitInt4WithOffset,
};

/** Spans the block's values, and zero, with 256 steps: every error is at most half a step. A block of one value is kept exactly. */
function fitInt8(values: Float32Array, from: number, { quants, scales, zeroPoints }: BlockParts, to: number): void {
  let low = values[from]!;
  let high = low;
  for (let i = 1; i < 32; i++) {
    const value = values[from + i]!;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low === high) {
    quants.fill(1, to, to + 32);
    scales[to >> 5] = low;
    return;
  }
  const scale = Math.fround((Math.max(high, 0) - Math.min(low, 0)) / 255);
  const zero = scale === 0 ? 0 : Math.min(255, Math.round(-Math.min(low, 0) / scale));
  scales[to >> 5] = scale;
  zeroPoints[to >> 5] = zero;
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < 32; i++) quants[to + i] = clamp(Math.round(values[from + i]! * inverse) + zero, 255);
}

/** Symmetric, 4 bit: the value of largest magnitude falls on -8 exactly, so a scale may be negative. */
function fitInt4(values: Float32Array, from: number, { quants, scales }: BlockParts, to: number): void {
  let peak = 0;
  for (let i = 0; i < 32; i++) if (Math.abs(values[from + i]!) > Math.abs(peak)) peak = values[from + i]!;
  const scale = Math.fround(peak / -8);
  const inverse = scale === 0 ? 0 : 1 / scale;
  scales[to >> 5] = scale;
  const quant = (i: number): number => clamp(Math.round(values[from + i]! * inverse) + 8, 15);
  for (let i = 0; i < 32; i += 2) quants[(to + i) >> 1] = quant(i) | (quant(i + 1) << 4);
}

/** Spans the block's values with 16 steps: every error is at most half a step. */
function fitInt4WithOffset(values: Float32Array, from: number, { quants, scales, zeroPoints, offsets }: BlockParts, to: number): void {
  const block = values.subarray(from, from + 32);
  const low = Math.min(...block);
  const scale = Math.fround((Math.max(...block) - low) / 15);
  const zero = scale === 0 ? 0 : clamp(Math.round(-low / scale), 15);
  scales[to >> 5] = scale;
  zeroPoints[to >> 5] = zero;
  offsets[to >> 5] = low + zero * scale;
  const quant = (i: number): number => (scale === 0 ? 0 : Math.min(15, Math.round((block[i]! - low) / scale)));
  for (let i = 0; i < 32; i += 2) quants[(to + i) >> 1] = quant(i) | (quant(i + 1) << 4);
}

const clamp = (value: number, most: number): number => Math.max(0, Math.min(most, value));

function refuseNonFinite(values: Float32Array, from: number, origin: Origin): void {
  let sum = 0; // x * 0 is 0 for every finite x, and NaN for the others
  for (let i = 0; i < 32; i++) sum += values[from + i]! * 0;
  if (sum === 0) return;
  const bad = values.subarray(from, from + 32).find((value) => !Number.isFinite(value));
  throw notFinite(bad!, from, origin);
}

function notFinite(value: number, element: number, { where, firstElement }: Origin): CheckpointCorruptError {
  const block = Math.floor((firstElement + element) / quantBlock);
  return new CheckpointCorruptError(`Block ${block} holds ${value} as a scale or weight.`, where);
}

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
