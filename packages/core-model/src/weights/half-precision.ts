import { float16ToNumber } from '@graft/graph';
import { CheckpointDTypeError, type Origin } from './errors.ts';

/** Rounded to nearest, ties to even; a NaN stays a NaN. */
export function encodeBfloat16(values: Float32Array): Uint16Array {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    bits[i] = (word & 0x7fffffff) > 0x7f800000 ? (word >>> 16) | 64 : (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
  return bits;
}

/** Rounded to nearest, ties to even. @throws CheckpointDTypeError for a value above 65504, which float16 would make infinite. */
export function encodeFloat16(values: Float32Array, { where, firstElement }: Origin): Uint16Array {
  const bits = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    bits[i] = float16Bits(value);
    if ((bits[i]! & 0x7fff) === 0x7c00 && Number.isFinite(value)) {
      throw new CheckpointDTypeError(`Element ${firstElement + i} is ${value}, beyond float16.`, where, {
        fix: 'keep this parameter in bfloat16 or float32.',
      });
    }
  }
  return bits;
}

function float16Bits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (Number.isNaN(magnitude)) return 0x7e00;
  if (magnitude >= 65520) return sign | 0x7c00;
  if (magnitude < 2 ** -14) return sign | roundToEven(magnitude * 2 ** 24); // subnormal; a carry becomes the least normal
  const exponent = Math.floor(Math.log2(magnitude));
  const power = magnitude < 2 ** exponent ? exponent - 1 : magnitude >= 2 ** (exponent + 1) ? exponent + 1 : exponent;
  return sign | (((power + 14) << 10) + roundToEven(magnitude * 2 ** (10 - power)));
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

let table: Float32Array | null = null;

/** Every float16 by its bits: a scale or value costs one load. */
export function float16Table(): Float32Array {
  table ??= Float32Array.from({ length: 65536 }, (_, bits) => float16ToNumber(bits));
  return table;
}

let float8: Float32Array | null = null;

/** Every float8 (E4M3, no infinities) by its bits. */
export function float8Table(): Float32Array {
  float8 ??= Float32Array.from({ length: 256 }, (_, bits) => {
    const [sign, exponent, fraction] = [bits & 128 ? -1 : 1, (bits >> 3) & 15, bits & 7];
    if (exponent === 15 && fraction === 7) return Number.NaN;
    return sign * (exponent === 0 ? fraction * 2 ** -9 : (1 + fraction / 8) * 2 ** (exponent - 7));
  });
  return float8;
}
