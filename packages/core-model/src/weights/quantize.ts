import { aligned, fromBfloat16, partBytes, partsOf, quantBlock, type StorageFormat } from '@graft/graph';
import { CheckpointCorruptError, CheckpointDTypeError, type Origin } from './errors.ts';
import { encodeBfloat16, encodeFloat16, float16Table } from './half-precision.ts';

export type Parts = Record<string, Uint8Array>;

/** An element type of checkpoints, in blocks of `elements` elements and `bytes` bytes; a plain type is a block of one. */
export interface SourceType {
  readonly elements: number;
  readonly bytes: number;
  /** The values in float32. Exact for every type but Q4_1, whose `d * q + m` is rounded once. */
  decode(bytes: Uint8Array, origin: Origin): Float32Array;
  /** Conversions that keep the type's own grid. Exact, but for Q4_1's fractional offset. */
  readonly direct: { readonly [F in StorageFormat]?: (bytes: Uint8Array, origin: Origin) => Parts };
}

/** The element types whose values can be read, by their names in files. */
export const sourceTypes: ReadonlyMap<string, SourceType> = new Map<string, SourceType>([
  ['F32', { elements: 1, bytes: 4, decode: (bytes) => aligned(bytes, Float32Array), direct: { float32: (data) => ({ data }) } }],
  ['F16', { elements: 1, bytes: 2, decode: decodeFloat16, direct: { float16: (data) => ({ data }) } }],
  [
    'BF16',
    { elements: 1, bytes: 2, decode: (bytes) => fromBfloat16(aligned(bytes, Uint16Array)), direct: { bfloat16: (data) => ({ data }) } },
  ],
  ['Q8_0', blockType(34, decodeQ80, { int8b32: q80AsInt8 })],
  ['Q4_0', blockType(18, decodeQ40, { int8b32: q40AsInt8, int4b32: q40AsInt4, int4b32o: q40AsInt4 })],
  ['Q4_1', blockType(20, decodeQ41, { int8b32: q41AsInt8, int4b32o: q41AsInt4 })],
]);

/** @throws CheckpointDTypeError when values of this type cannot be read. */
export function sourceType(dtype: string, where: string): SourceType {
  const type = sourceTypes.get(dtype);
  if (type === undefined) throw new CheckpointDTypeError(`Weights of dtype ${dtype} cannot be loaded.`, where);
  return type;
}

/**
 * Converts whole blocks of a tensor into the parts of a storage format (see `WeightStorage` for their layout).
 * Exact wherever the format can hold the source's grid (Q4_1 into int4b32o up to float32's rounding). Q4_1 into int8b32 moves a block by at most |d|/34.
 * @throws CheckpointDTypeError for a dtype that cannot be loaded, CheckpointCorruptError for a scale or value that is not finite.
 */
export function convert(dtype: string, bytes: Uint8Array, format: StorageFormat, origin: Origin): Parts {
  const { decode, direct } = sourceType(dtype, origin.where);
  return direct[format]?.(bytes, origin) ?? encode(decode(bytes, origin), format, origin);
}

/** Float32 values into a format, each block on its own. @throws CheckpointCorruptError, CheckpointDTypeError */
export function encode(values: Float32Array, format: StorageFormat, origin: Origin): Parts {
  if (format === 'float32') return { data: bytesOf(values) };
  if (format === 'bfloat16') return { data: bytesOf(encodeBfloat16(values)) };
  if (format === 'float16') return { data: bytesOf(encodeFloat16(values, origin)) };
  const target = new BlockParts(format, values.length);
  for (let to = 0; to < values.length; to += quantBlock) {
    refuseNonFinite(values, to, origin);
    fits[format](values, to, target, to);
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

/** Reads the block at byte `from`, and writes its elements from `to` on. */
type ReadBlock<Target> = (bytes: Uint8Array, from: number, target: Target, to: number, origin: Origin) => void;
type Converters = { readonly [F in StorageFormat]?: ReadBlock<BlockParts> };

/** A type in blocks of 32. @param direct formats that can hold the type's grid. */
function blockType(size: number, decodeBlock: ReadBlock<Float32Array>, direct: Converters): SourceType {
  const elementsOf = (bytes: Uint8Array): number => (bytes.byteLength / size) * quantBlock;
  const readAll = <T>(read: ReadBlock<T>, bytes: Uint8Array, target: T, origin: Origin): T => {
    for (let from = 0, to = 0; from < bytes.byteLength; from += size, to += quantBlock) read(bytes, from, target, to, origin);
    return target;
  };
  const conversions = Object.entries(direct).map(([format, read]) => [
    format,
    (bytes: Uint8Array, origin: Origin) => readAll(read, bytes, new BlockParts(format as StorageFormat, elementsOf(bytes)), origin).parts,
  ]);
  return {
    elements: quantBlock,
    bytes: size,
    decode: (bytes, origin) => readAll(decodeBlock, bytes, new Float32Array(elementsOf(bytes)), origin),
    direct: Object.fromEntries(conversions) as SourceType['direct'],
  };
}

function decodeFloat16(bytes: Uint8Array): Float32Array {
  const bits = aligned(bytes, Uint16Array);
  const table = float16Table();
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]!]!;
  return values;
}

function decodeQ80(bytes: Uint8Array, from: number, values: Float32Array, to: number, origin: Origin): void {
  const d = scaleAt(bytes, from, to, origin);
  for (let i = 0; i < 32; i++) values[to + i] = d * ((bytes[from + 2 + i]! << 24) >> 24);
}

function q80AsInt8(bytes: Uint8Array, from: number, { quants, scales, zeroPoints }: BlockParts, to: number, origin: Origin): void {
  scales[to >> 5] = scaleAt(bytes, from, to, origin);
  zeroPoints[to >> 5] = 128;
  for (let i = 0; i < 32; i++) quants[to + i] = bytes[from + 2 + i]! ^ 128; // two's complement q as q + 128
}

function decodeQ40(bytes: Uint8Array, from: number, values: Float32Array, to: number, origin: Origin): void {
  const d = scaleAt(bytes, from, to, origin);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 2 + i]!;
    values[to + i] = d * ((pair & 15) - 8);
    values[to + 16 + i] = d * ((pair >> 4) - 8);
  }
}

function q40AsInt8(bytes: Uint8Array, from: number, { quants, scales, zeroPoints }: BlockParts, to: number, origin: Origin): void {
  scales[to >> 5] = scaleAt(bytes, from, to, origin);
  zeroPoints[to >> 5] = 128;
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 2 + i]!;
    quants[to + i] = (pair & 15) + 120; // q - 8 about a zero point of 128
    quants[to + 16 + i] = (pair >> 4) + 120;
  }
}

function q40AsInt4(bytes: Uint8Array, from: number, { quants, scales, zeroPoints }: BlockParts, to: number, origin: Origin): void {
  scales[to >> 5] = scaleAt(bytes, from, to, origin);
  zeroPoints[to >> 5] = 8;
  repackNibbles(bytes, from + 2, quants, to >> 1);
}

/** GGUF puts elements 0 to 15 of a block into the low nibbles and 16 to 31 into the high ones; here neighbours share a byte. */
function repackNibbles(bytes: Uint8Array, from: number, quants: Uint8Array, to: number): void {
  for (let i = 0; i < 16; i += 2) {
    const even = bytes[from + i]!;
    const odd = bytes[from + 1 + i]!;
    quants[to + (i >> 1)] = (even & 15) | ((odd & 15) << 4);
    quants[to + 8 + (i >> 1)] = (even >> 4) | (odd & 240);
  }
}

function decodeQ41(bytes: Uint8Array, from: number, values: Float32Array, to: number, origin: Origin): void {
  const d = scaleAt(bytes, from, to, origin);
  const m = scaleAt(bytes, from + 2, to, origin);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 4 + i]!;
    values[to + i] = d * (pair & 15) + m;
    values[to + 16 + i] = d * (pair >> 4) + m;
  }
}

/**
 * `d * q + m` with q in 0..15 as `(k * q - z) * (d / k)`, where the zero point `z = -k * m / d` must be rounded to an integer. The k (at most 17, since
 * 17 * 15 = 255) is the one that rounds least: this costs nothing at run time and leaves a third of the error of a fixed 17. A block moves by at most |d| / 34.
 * Where z does not fit a byte (a block far from zero), the block is fitted anew.
 */
function q41AsInt8(bytes: Uint8Array, from: number, target: BlockParts, to: number, origin: Origin): void {
  const { quants, scales, zeroPoints } = target;
  const d = scaleAt(bytes, from, to, origin);
  const m = scaleAt(bytes, from + 2, to, origin);
  const step = bestStep(-m / d); // NaN or infinite for d = 0
  if (step === 0) {
    const block = new Float32Array(quantBlock);
    decodeQ41(bytes, from, block, 0, origin);
    fitInt8(block, 0, target, to);
    return;
  }
  scales[to >> 5] = d / step;
  zeroPoints[to >> 5] = Math.round((-m / d) * step);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 4 + i]!;
    quants[to + i] = (pair & 15) * step;
    quants[to + 16 + i] = (pair >> 4) * step;
  }
}

/** The k in 1..17 for which `k * offset` is nearest to a whole number in 0..255, in steps of 1 / k; 0 where none is within 1/34. */
function bestStep(offset: number): number {
  let best = 0;
  let smallest = 1 / 34 + 1e-9;
  for (let step = 17; step > 0; step--) {
    const zero = Math.round(offset * step);
    const error = Math.abs(offset - zero / step);
    if (!(zero >= 0 && zero <= 255) || !(error < smallest)) continue;
    best = step;
    smallest = error;
  }
  return best;
}

/** `d * q + m` as `(q - z) * d + offset`, with the whole z nearest to -m / d. The remaining offset is small, so rounded activations change it little. */
function q41AsInt4(bytes: Uint8Array, from: number, { quants, scales, zeroPoints, offsets }: BlockParts, to: number, origin: Origin): void {
  const d = scaleAt(bytes, from, to, origin);
  const m = scaleAt(bytes, from + 2, to, origin);
  const zero = d === 0 ? 0 : clamp(Math.round(-m / d), 15);
  scales[to >> 5] = d;
  zeroPoints[to >> 5] = zero;
  offsets[to >> 5] = m + zero * d;
  repackNibbles(bytes, from + 4, quants, to >> 1);
}

/** Writes 32 values from `from` on as the block whose elements begin at `to`. */
type FitBlock = (values: Float32Array, from: number, target: BlockParts, to: number) => void;
const fits: Readonly<Record<'int8b32' | 'int4b32' | 'int4b32o', FitBlock>> = {
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

/** The float16 at `offset`. @throws CheckpointCorruptError when it is not finite. */
function scaleAt(bytes: Uint8Array, offset: number, element: number, origin: Origin): number {
  const bits = bytes[offset]! | (bytes[offset + 1]! << 8);
  const value = float16Table()[bits]!;
  if ((bits & 0x7c00) === 0x7c00) throw notFinite(value, element, origin);
  return value;
}

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
