import { aligned, quantBlock, type StorageFormat } from '@graft/graph';
import { at, CheckpointCorruptError, CheckpointDTypeError, type Origin } from './errors.ts';
import { encodeBfloat16, encodeFloat16, float16Table } from './half-precision.ts';

/** Bytes of a block and how many elements it holds; a plain dtype is a block of one. */
export const sourceLayouts = new Map<string, { elements: number; bytes: number }>([
  ['F32', { elements: 1, bytes: 4 }],
  ['F16', { elements: 1, bytes: 2 }],
  ['BF16', { elements: 1, bytes: 2 }],
  ['Q8_0', { elements: quantBlock, bytes: 34 }],
  ['Q4_0', { elements: quantBlock, bytes: 18 }],
  ['Q4_1', { elements: quantBlock, bytes: 20 }],
]);

export type Parts = Record<string, Uint8Array>;

/**
 * Converts whole blocks of a tensor into the parts of a storage format (see `WeightStorage` for their layout).
 * Exact wherever the format can hold the source's grid (Q4_1 into int4b32o up to float32's rounding); Q4_1 into int8b32 moves a block by at most |d|/34.
 * @throws CheckpointDTypeError for a dtype that cannot be loaded, CheckpointCorruptError for a scale or value that is not finite.
 */
export function convert(dtype: string, bytes: Uint8Array, format: StorageFormat, origin: Origin): Parts {
  const layout = sourceLayout(dtype, origin);
  const elements = (bytes.byteLength / layout.bytes) * layout.elements;
  const direct = directConversions[`${dtype}>${format}`];
  if (direct !== undefined) return direct(bytes, elements, origin);
  return encode(decode(dtype, bytes, origin), format, origin);
}

/** @throws CheckpointDTypeError when values of this dtype cannot be loaded. */
export function sourceLayout(dtype: string, { path, key }: { path: string; key: string }): { elements: number; bytes: number } {
  const layout = sourceLayouts.get(dtype);
  if (layout === undefined) throw new CheckpointDTypeError(`Weights of dtype ${dtype} cannot be loaded.`, at(path, key));
  return layout;
}

/** The values in float32; exact for every dtype but Q4_1, whose d * q + m is rounded once. */
export function decode(dtype: string, bytes: Uint8Array, origin: Origin): Float32Array {
  const { elements, bytes: size } = sourceLayout(dtype, origin);
  return decoders[dtype]!(bytes, (bytes.byteLength / size) * elements, origin);
}

/** Float32 values into a format, each block on its own. @throws CheckpointCorruptError, CheckpointDTypeError */
export function encode(values: Float32Array, format: StorageFormat, origin: Origin): Parts {
  switch (format) {
    case 'float32':
      return { data: bytesOf(values) };
    case 'bfloat16':
      return { data: bytesOf(encodeBfloat16(values)) };
    case 'float16':
      return { data: bytesOf(encodeFloat16(values, origin)) };
    case 'int8b32':
      return encodeInt8(values, origin);
    case 'int4b32':
      return encodeInt4(values, origin);
    case 'int4b32o':
      return encodeInt4WithOffset(values, origin);
  }
}

type Decoder = (bytes: Uint8Array, elements: number, origin: Origin) => Float32Array;

const decoders: Record<string, Decoder> = {
  F32: (bytes) => aligned(bytes, Float32Array),
  F16(bytes) {
    const bits = aligned(bytes, Uint16Array);
    const table = float16Table();
    const values = new Float32Array(bits.length);
    for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]!]!;
    return values;
  },
  BF16(bytes) {
    const bits = aligned(bytes, Uint16Array);
    const words = new Uint32Array(bits.length);
    for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
    return new Float32Array(words.buffer);
  },
  Q8_0(bytes, elements, origin) {
    const values = new Float32Array(elements);
    for (let from = 0, to = 0; to < elements; from += 34, to += 32) {
      const d = scaleAt(bytes, from, to, origin);
      for (let i = 0; i < 32; i++) values[to + i] = d * ((bytes[from + 2 + i]! << 24) >> 24);
    }
    return values;
  },
  Q4_0(bytes, elements, origin) {
    const values = new Float32Array(elements);
    for (let from = 0, to = 0; to < elements; from += 18, to += 32) {
      const d = scaleAt(bytes, from, to, origin);
      for (let i = 0; i < 16; i++) {
        const pair = bytes[from + 2 + i]!;
        values[to + i] = d * ((pair & 15) - 8);
        values[to + 16 + i] = d * ((pair >> 4) - 8);
      }
    }
    return values;
  },
  Q4_1(bytes, elements, origin) {
    const values = new Float32Array(elements);
    for (let from = 0, to = 0; to < elements; from += 20, to += 32) decodeQ41Block(bytes, from, values, to, to, origin);
    return values;
  },
};

/** `at0` is the element that errors count from; `to` is where the values go. */
function decodeQ41Block(bytes: Uint8Array, from: number, values: Float32Array, to: number, at0: number, origin: Origin): void {
  const d = scaleAt(bytes, from, at0, origin);
  const m = scaleAt(bytes, from + 2, at0, origin);
  for (let i = 0; i < 16; i++) {
    const pair = bytes[from + 4 + i]!;
    values[to + i] = d * (pair & 15) + m;
    values[to + 16 + i] = d * (pair >> 4) + m;
  }
}

type DirectConversion = (bytes: Uint8Array, elements: number, origin: Origin) => Parts;

/** Conversions that keep the source's own grid. Nothing here changes a value, but for Q4_1's fractional offset. */
const directConversions: Record<string, DirectConversion> = {
  'F32>float32': (bytes) => ({ data: bytes }),
  'F16>float16': (bytes) => ({ data: bytes }),
  'BF16>bfloat16': (bytes) => ({ data: bytes }),
  'Q8_0>int8b32'(bytes, elements, origin) {
    const { quants, scales, zeroPoints, parts } = int8Parts(elements);
    zeroPoints.fill(128);
    for (let from = 0, to = 0; to < elements; from += 34, to += 32) {
      scales[to >> 5] = scaleAt(bytes, from, to, origin);
      for (let i = 0; i < 32; i++) quants[to + i] = bytes[from + 2 + i]! ^ 128; // two's complement q as q + 128
    }
    return parts;
  },
  'Q4_0>int8b32'(bytes, elements, origin) {
    const { quants, scales, zeroPoints, parts } = int8Parts(elements);
    zeroPoints.fill(128);
    for (let from = 0, to = 0; to < elements; from += 18, to += 32) {
      scales[to >> 5] = scaleAt(bytes, from, to, origin);
      for (let i = 0; i < 16; i++) {
        const pair = bytes[from + 2 + i]!;
        quants[to + i] = (pair & 15) + 120; // q - 8 about a zero point of 128
        quants[to + 16 + i] = (pair >> 4) + 120;
      }
    }
    return parts;
  },
  'Q4_0>int4b32'(bytes, elements, origin) {
    const { quants, scales, parts } = int4Parts(elements);
    for (let from = 0, to = 0; to < elements; from += 18, to += 32) {
      scales[to >> 5] = scaleAt(bytes, from, to, origin);
      repackNibbles(bytes, from + 2, quants, to >> 1);
    }
    return parts;
  },
  'Q4_0>int4b32o'(bytes, elements, origin) {
    const { parts, zeroPoints } = int4OffsetParts(elements);
    zeroPoints.fill(8);
    return { ...parts, ...directConversions['Q4_0>int4b32']!(bytes, elements, origin) };
  },
  'Q4_1>int8b32': q41ToInt8,
  'Q4_1>int4b32o': q41ToInt4WithOffset,
};

/** GGUF puts elements 0 to 15 of a block into the low nibbles and 16 to 31 into the high ones; here neighbours share a byte. */
function repackNibbles(bytes: Uint8Array, from: number, quants: Uint8Array, to: number): void {
  for (let i = 0; i < 16; i += 2) {
    const even = bytes[from + i]!;
    const odd = bytes[from + 1 + i]!;
    quants[to + (i >> 1)] = (even & 15) | ((odd & 15) << 4);
    quants[to + 8 + (i >> 1)] = (even >> 4) | (odd & 240);
  }
}

/**
 * d * q + m with q in 0..15 as (k * q - z) * (d / k), where the integer zero point z = -k * m / d has to be rounded: k, 17 at most since 17 * 15 = 255,
 * is the one that rounds least, which costs nothing at run time and leaves a third of the error of a fixed 17. A block is shifted by at most |d| / 34.
 * Where z does not fit a byte (a block far from zero) the block is fitted anew.
 */
function q41ToInt8(bytes: Uint8Array, elements: number, origin: Origin): Parts {
  const target = int8Parts(elements);
  const { quants, scales, zeroPoints } = target;
  const block = new Float32Array(32);
  for (let from = 0, to = 0; to < elements; from += 20, to += 32) {
    const d = scaleAt(bytes, from, to, origin);
    const m = scaleAt(bytes, from + 2, to, origin);
    const step = bestStep(-m / d); // NaN or infinite for d = 0
    if (step === 0) {
      decodeQ41Block(bytes, from, block, 0, to, origin);
      fitInt8Block(block, 0, target, to, origin);
      continue;
    }
    scales[to >> 5] = d / step;
    zeroPoints[to >> 5] = Math.round((-m / d) * step);
    for (let i = 0; i < 16; i++) {
      const pair = bytes[from + 4 + i]!;
      quants[to + i] = (pair & 15) * step;
      quants[to + 16 + i] = (pair >> 4) * step;
    }
  }
  return target.parts;
}

/** The k in 1..17 for which k * offset is nearest to a whole number in 0..255, as seen in steps of 1 / k; 0 where none is within 1/34. */
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

/** d * q + m as (q - z) * d + offset, with the whole z nearest to -m / d: the offset that is left is small, so that rounded activations weigh little on it. */
function q41ToInt4WithOffset(bytes: Uint8Array, elements: number, origin: Origin): Parts {
  const { quants, scales, zeroPoints, offsets, parts } = int4OffsetParts(elements);
  for (let from = 0, to = 0; to < elements; from += 20, to += 32) {
    const d = scaleAt(bytes, from, to, origin);
    const m = scaleAt(bytes, from + 2, to, origin);
    const zero = d === 0 ? 0 : Math.max(0, Math.min(15, Math.round(-m / d)));
    scales[to >> 5] = d;
    zeroPoints[to >> 5] = zero;
    offsets[to >> 5] = m + zero * d;
    repackNibbles(bytes, from + 4, quants, to >> 1);
  }
  return parts;
}

/** Spans the values of each block with 16 steps: every error is at most half a step. */
function encodeInt4WithOffset(values: Float32Array, origin: Origin): Parts {
  const { quants, scales, zeroPoints, offsets, parts } = int4OffsetParts(values.length);
  for (let to = 0; to < values.length; to += 32) {
    const block = values.subarray(to, to + 32);
    refuseNonFinite(values, to, to, origin);
    const low = Math.min(...block);
    const scale = Math.fround((Math.max(...block) - low) / 15);
    const zero = scale === 0 ? 0 : Math.max(0, Math.min(15, Math.round(-low / scale)));
    scales[to >> 5] = scale;
    zeroPoints[to >> 5] = zero;
    offsets[to >> 5] = low + zero * scale;
    const quant = (i: number): number => (scale === 0 ? 0 : Math.min(15, Math.round((block[i]! - low) / scale)));
    for (let i = 0; i < 32; i += 2) quants[(to + i) >> 1] = quant(i) | (quant(i + 1) << 4);
  }
  return parts;
}

function encodeInt8(values: Float32Array, origin: Origin): Parts {
  const target = int8Parts(values.length);
  for (let to = 0; to < values.length; to += 32) fitInt8Block(values, to, target, to, origin);
  return target.parts;
}

/** Spans the block's values, and zero, with 256 steps: every error is at most half a step. A block of one value is kept exactly. */
function fitInt8Block(values: Float32Array, from: number, target: Int8Parts, to: number, origin: Origin): void {
  const { quants, scales, zeroPoints } = target;
  let low = values[from]!;
  let high = low;
  for (let i = 1; i < 32; i++) {
    const value = values[from + i]!;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  refuseNonFinite(values, from, to, origin);
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
  for (let i = 0; i < 32; i++) quants[to + i] = Math.max(0, Math.min(255, Math.round(values[from + i]! * inverse) + zero));
}

/** Symmetric, 4 bit: the value of largest magnitude falls on -8 exactly, so a scale may be negative. */
function encodeInt4(values: Float32Array, origin: Origin): Parts {
  const { quants, scales, parts } = int4Parts(values.length);
  for (let to = 0; to < values.length; to += 32) {
    let peak = 0;
    for (let i = 0; i < 32; i++) if (Math.abs(values[to + i]!) > Math.abs(peak)) peak = values[to + i]!;
    refuseNonFinite(values, to, to, origin);
    const scale = Math.fround(peak / -8);
    const inverse = scale === 0 ? 0 : 1 / scale;
    scales[to >> 5] = scale;
    for (let i = 0; i < 32; i += 2) {
      const low = Math.max(0, Math.min(15, Math.round(values[to + i]! * inverse) + 8));
      const high = Math.max(0, Math.min(15, Math.round(values[to + i + 1]! * inverse) + 8));
      quants[(to + i) >> 1] = low | (high << 4);
    }
  }
  return parts;
}

/** The float16 at `offset`. @throws CheckpointCorruptError when it is not finite. */
function scaleAt(bytes: Uint8Array, offset: number, element: number, origin: Origin): number {
  const bits = bytes[offset]! | (bytes[offset + 1]! << 8);
  if ((bits & 0x7c00) === 0x7c00) throw notFinite(float16Table()[bits]!, element, origin);
  return float16Table()[bits]!;
}

function refuseNonFinite(values: Float32Array, from: number, element: number, origin: Origin): void {
  let sum = 0; // x * 0 is 0 for every finite x, and NaN for the others
  for (let i = 0; i < 32; i++) sum += values[from + i]! * 0;
  if (sum === 0) return;
  const bad = values.subarray(from, from + 32).find((value) => !Number.isFinite(value));
  throw notFinite(bad!, element, origin);
}

function notFinite(value: number, element: number, { path, key, firstElement }: Origin): CheckpointCorruptError {
  return new CheckpointCorruptError(
    `Block ${Math.floor((firstElement + element) / quantBlock)} holds ${value} as a scale or weight.`,
    at(path, key),
  );
}

function bytesOf(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

type Int8Parts = ReturnType<typeof int8Parts>;

function int8Parts(elements: number) {
  const quants = new Uint8Array(elements);
  const scales = new Float32Array(elements / quantBlock);
  const zeroPoints = new Uint8Array(elements / quantBlock);
  return { quants, scales, zeroPoints, parts: { quants, scales: bytesOf(scales), zeroPoints } };
}

function int4Parts(elements: number): { quants: Uint8Array; scales: Float32Array; parts: Parts } {
  const quants = new Uint8Array(elements / 2);
  const scales = new Float32Array(elements / quantBlock);
  return { quants, scales, parts: { quants, scales: bytesOf(scales) } };
}

function int4OffsetParts(elements: number) {
  const { quants, scales, parts } = int4Parts(elements);
  const zeroPoints = new Uint8Array(elements / quantBlock);
  const offsets = new Float32Array(elements / quantBlock);
  return { quants, scales, zeroPoints, offsets, parts: { ...parts, zeroPoints, offsets: bytesOf(offsets) } };
}
