import { float16ToNumber, memoryStorage, type StorageFormat, toFloat32 } from '@graft/graph';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concatenate, failure } from './checkpoint-files.fixture.ts';
import { convert, encode, sourceType } from './quantize.ts';

const origin = { where: 'model.gguf, tensor "blk.0.ffn_up.weight"', firstElement: 64 };

/** What a converted tensor's storage says its values are. */
function valuesOf(dtype: string, bytes: Uint8Array, format: StorageFormat, elements: number): Float32Array {
  return toFloat32(memoryStorage(format, [elements / 32, 32], convert(dtype, bytes, format, origin)));
}

const half = (bits: number): Uint8Array => Uint8Array.of(bits & 255, bits >> 8);

/** Bits of a finite float16, of either sign, zero and subnormals included. */
const finiteHalf = fc.integer({ min: 0, max: 0xffff }).filter((bits) => (bits & 0x7c00) !== 0x7c00);
const nibbles = fc.array(fc.integer({ min: 0, max: 15 }), { minLength: 32, maxLength: 32 });

/** As ggml packs a block of 32: byte i holds element i in its low half and element 16 + i in its high half. */
const pack = (q: number[]): Uint8Array => Uint8Array.from({ length: 16 }, (_, i) => q[i]! | (q[i + 16]! << 4));

const blockQ40 = fc.tuple(finiteHalf, nibbles);
const blockQ41 = fc.tuple(finiteHalf, finiteHalf, nibbles);
const blockQ80 = fc.tuple(finiteHalf, fc.array(fc.integer({ min: -128, max: 127 }), { minLength: 32, maxLength: 32 }));
const blocks = <T>(block: fc.Arbitrary<T>) => fc.array(block, { minLength: 1, maxLength: 4 });

const bytesQ40 = (list: [number, number[]][]): Uint8Array => concatenate(list.flatMap(([d, q]) => [half(d), pack(q)]));
const bytesQ41 = (list: [number, number, number[]][]): Uint8Array => concatenate(list.flatMap(([d, m, q]) => [half(d), half(m), pack(q)]));
const bytesQ80 = (list: [number, number[]][]): Uint8Array =>
  concatenate(list.flatMap(([d, q]) => [half(d), new Uint8Array(Int8Array.from(q).buffer)]));

// The definitions of the three block formats, element by element.
const oracleQ40 = (list: [number, number[]][]): number[] =>
  list.flatMap(([d, q]) => q.map((n) => Math.fround((n - 8) * float16ToNumber(d)) + 0));
const oracleQ41 = (list: [number, number, number[]][]): number[] =>
  list.flatMap(([d, m, q]) => q.map((n) => Math.fround(n * float16ToNumber(d) + float16ToNumber(m)) + 0));
const oracleQ80 = (list: [number, number[]][]): number[] => list.flatMap(([d, q]) => q.map((n) => Math.fround(n * float16ToNumber(d)) + 0));
const plain = (values: Float32Array): number[] => Array.from(values, (value) => value + 0); // -0 counts as 0

describe('a quantised tensor keeps its values exactly', () => {
  test.each(['float32', 'int4b32', 'int4b32o', 'int8b32'] as const)('Q4_0 as %s', (format) => {
    fc.assert(
      fc.property(blocks(blockQ40), (list) => {
        expect(plain(valuesOf('Q4_0', bytesQ40(list), format, list.length * 32))).toEqual(oracleQ40(list));
      }),
    );
  });

  test.each(['float32', 'int8b32'] as const)('Q8_0 as %s', (format) => {
    fc.assert(
      fc.property(blocks(blockQ80), (list) => {
        expect(plain(valuesOf('Q8_0', bytesQ80(list), format, list.length * 32))).toEqual(oracleQ80(list));
      }),
    );
  });

  test('Q4_1 as float32', () => {
    fc.assert(
      fc.property(blocks(blockQ41), (list) => {
        expect(plain(valuesOf('Q4_1', bytesQ41(list), 'float32', list.length * 32))).toEqual(oracleQ41(list));
      }),
    );
  });

  test('every dtype without blocks as itself', () => {
    const bytes = Uint8Array.from({ length: 128 }, (_, i) => i);
    for (const [dtype, format] of [
      ['F32', 'float32'],
      ['F16', 'float16'],
      ['BF16', 'bfloat16'],
    ] as const)
      expect(convert(dtype, bytes, format, origin)).toEqual({ data: bytes });
  });
});

const largestError = (actual: Float32Array, exact: ArrayLike<number>): number =>
  Math.max(...actual.map((value, i) => Math.abs(value - exact[i]!)));

test('Q4_1 as int8b32 is off by at most |d|/34, or by half a step of a range with zero in it', () => {
  fc.assert(
    fc.property(blockQ41, ([dBits, mBits, q]) => {
      const [d, m] = [float16ToNumber(dBits), float16ToNumber(mBits)];
      const exact = oracleQ41([[dBits, mBits, q]]);
      const actual = valuesOf('Q4_1', bytesQ41([[dBits, mBits, q]]), 'int8b32', 32);
      const nearZero = d !== 0 && Math.round((-17 * m) / d) >= 0 && Math.round((-17 * m) / d) <= 255;
      const refit = (Math.max(...exact, 0) - Math.min(...exact, 0)) / 510;
      const bound = nearZero ? Math.abs(d) / 34 : Math.max(Math.abs(d) / 34, refit);
      const rounding = 1e-6 * Math.max(...exact.map(Math.abs));
      expect(largestError(actual, exact)).toBeLessThanOrEqual(bound + rounding);
    }),
    { numRuns: 500 },
  );
});

test('Q4_1 as int4b32o is exact up to the rounding of float32', () => {
  fc.assert(
    fc.property(blocks(blockQ41), (list) => {
      const exact = oracleQ41(list);
      const actual = valuesOf('Q4_1', bytesQ41(list), 'int4b32o', list.length * 32);
      const scale = Math.max(...list.map(([d, m]) => Math.max(Math.abs(16 * float16ToNumber(d)), Math.abs(float16ToNumber(m)))));
      expect(largestError(actual, exact)).toBeLessThanOrEqual(scale * 4e-7);
    }),
  );
});

test('float32 as int4b32o is off by at most half of 1/15 of the block', () => {
  fc.assert(
    fc.property(row, (values) => {
      const actual = toFloat32(memoryStorage('int4b32o', [32], encode(values, 'int4b32o', origin)));
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const rounding = 1e-6 * Math.max(Math.abs(low), Math.abs(high));
      expect(largestError(actual, values)).toBeLessThanOrEqual((high - low) / 30 + rounding + 1e-40);
    }),
  );
});

test('a Q4_1 block without spread (d = 0) is its offset exactly', () => {
  const block = bytesQ41([[0, 0x3555, Array<number>(32).fill(9)]]);
  expect(new Set(valuesOf('Q4_1', block, 'int8b32', 32))).toEqual(new Set([float16ToNumber(0x3555)]));
});

const finite = fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e30), max: Math.fround(1e30) });
const row = fc.array(finite, { minLength: 32, maxLength: 32 }).map((values) => Float32Array.from(values));
const spread = (values: Float32Array): number => Math.max(...values, 0) - Math.min(...values, 0);

test('float32 as int8b32 is off by at most half of 1/255 of the block, zero included', () => {
  fc.assert(
    fc.property(row, (values) => {
      const actual = toFloat32(memoryStorage('int8b32', [32], encode(values, 'int8b32', origin)));
      expect(largestError(actual, values)).toBeLessThanOrEqual((spread(values) / 510) * 1.001 + 1e-40);
    }),
  );
});

test('float32 as int4b32 keeps the value of largest magnitude, and others within an eighth of it', () => {
  fc.assert(
    fc.property(row, (values) => {
      const actual = toFloat32(memoryStorage('int4b32', [32], encode(values, 'int4b32', origin)));
      const peak = Math.max(...values.map(Math.abs));
      expect(largestError(actual, values)).toBeLessThanOrEqual((peak / 8) * 1.001 + 1e-40);
      const at = values.findIndex((value) => Math.abs(value) === peak);
      expect(Math.abs(actual[at]! - values[at]!)).toBeLessThanOrEqual(peak * 1e-6 + 1e-40);
    }),
  );
});

test('BF16 and F16 decode as IEEE says, and encode back to the same bits', () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const bytes = new Uint8Array(bits.buffer);
  const halves = sourceType('F16', origin.where).decode(bytes, origin);
  expect(bits.findIndex((value, i) => !Object.is(halves[i], float16ToNumber(value)))).toBe(-1);
  const back = new Uint16Array(encode(halves, 'float16', origin)['data']!.buffer);
  bits.forEach((value, i) => {
    if (!Number.isNaN(halves[i]!) && back[i] !== value) throw new Error(`0x${value.toString(16)} came back as 0x${back[i]!.toString(16)}`);
  });
  const brains = sourceType('BF16', origin.where).decode(bytes, origin);
  expect(brains[0x3f80]).toBe(1);
  expect(brains[0xc040]).toBe(-3);
  const again = new Uint16Array(encode(brains, 'bfloat16', origin)['data']!.buffer);
  for (let i = 0; i < 65536; i++)
    if (!Number.isNaN(brains[i]!) && again[i] !== i) throw new Error(`0x${i.toString(16)} came back as 0x${again[i]!.toString(16)}`);
});

test('rounding to bfloat16 and float16 goes to the nearest, ties to even', () => {
  const bits = (value: number, format: 'bfloat16' | 'float16'): number =>
    new Uint16Array(encode(Float32Array.of(value), format, origin)['data']!.buffer)[0]!;
  expect(bits(1 + 2 ** -8, 'bfloat16')).toBe(0x3f80);
  expect(bits(1 + 3 * 2 ** -8, 'bfloat16')).toBe(0x3f82);
  expect(bits(1 + 2 ** -8 + 2 ** -20, 'bfloat16')).toBe(0x3f81);
  expect(
    Number.isNaN(sourceType('BF16', origin.where).decode(new Uint8Array(Uint16Array.of(bits(Number.NaN, 'bfloat16')).buffer), origin)[0]),
  ).toBe(true);
  expect(bits(1 + 2 ** -11, 'float16')).toBe(0x3c00);
  expect(bits(1 + 3 * 2 ** -11, 'float16')).toBe(0x3c02);
  expect(bits(2 ** -25, 'float16')).toBe(0);
  expect(bits(3 * 2 ** -25, 'float16')).toBe(2);
  expect(bits(65519, 'float16')).toBe(0x7bff);
});

const nan = half(0x7e00);
const infinite = half(0x7c00);
const block = new Uint8Array(16);

test.each([
  ['Q4_0', concatenate([half(1), block, nan, block]), 'int4b32'],
  ['Q4_0', concatenate([half(1), block, infinite, block]), 'float32'],
  ['Q4_0', concatenate([half(1), block, nan, block]), 'int8b32'],
  ['Q4_1', concatenate([half(1), half(1), block, half(1), nan, block]), 'int8b32'],
  ['Q4_1', concatenate([half(1), half(1), block, infinite, half(1), block]), 'float32'],
  ['Q8_0', concatenate([half(1), block, block, nan, block, block]), 'int8b32'],
  ['F32', new Uint8Array(Float32Array.from({ length: 64 }, (_, i) => (i === 40 ? Number.NaN : i)).buffer), 'int8b32'],
  ['F32', new Uint8Array(Float32Array.from({ length: 64 }, (_, i) => (i === 63 ? Number.POSITIVE_INFINITY : i)).buffer), 'int4b32'],
] as const)('%s with a scale or weight that is not finite: the error names tensor and block', async (dtype, bytes, format) => {
  const error = await failure(() => convert(dtype, bytes, format, origin));
  expect(error.code).toBe('GRAFT_CHECKPOINT_CORRUPT');
  expect(error.message).toMatch(/Block 3 holds (NaN|Infinity).*model.gguf, tensor "blk.0.ffn_up.weight"/s); // the tensor's element 64 + 32
});

test('a value beyond float16 and a dtype without values are errors', async () => {
  const large = await failure(() => encode(Float32Array.of(1, 70000), 'float16', origin));
  expect([large.code, large.what]).toEqual(['GRAFT_CHECKPOINT_DTYPE', expect.stringContaining('Element 65 is 70000')]);
  expect((await failure(() => convert('I64', new Uint8Array(8), 'float32', origin))).message).toMatch(/dtype I64 cannot be loaded/);
});
