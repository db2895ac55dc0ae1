import { readFileSync } from 'node:fs';
import { type BlockTypeName, blockTypes, memoryStorage, type StorageFormat, toFloat32 } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import { convert, decodeBlocks, encode, sourceType } from './quantize.ts';

/** Blocks with their values by the Python package gguf; see ../../scripts/make_block_values.py. */
const cases = JSON.parse(readFileSync(new URL('./block-values.json', import.meta.url), 'utf8')) as Record<
  string,
  { bytes: string; values: string }
>;
const origin = { where: 'test', firstElement: 0 };
const bytesOf = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'base64'));

describe.each(Object.entries(cases))('%s', (name, { bytes, values }) => {
  const expected = new Float32Array(bytesOf(values).buffer);
  const type = sourceType(name, 'test');
  const largest = (of: Float32Array): number => of.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const errorOf = (format: StorageFormat): number => {
    const actual = toFloat32(memoryStorage(format, [512], convert(name, bytesOf(bytes), format, origin)));
    return largest(actual.map((value, i) => value - expected[i]!));
  };

  test('has the values of the published implementation', () => {
    const actual = type.decode(bytesOf(bytes), origin);
    expect(largest(actual.map((value, i) => value - expected[i]!))).toBeLessThanOrEqual(2e-7 * largest(expected));
  });

  test('is kept in its blocks', () => {
    expect(blockTypes[name as BlockTypeName]).toEqual({ elements: type.elements, bytes: type.bytes });
    const format: StorageFormat = `ggml.${name as BlockTypeName}`;
    const storage = memoryStorage(format, [2, 256], convert(name, bytesOf(bytes), format, origin));
    expect(toFloat32({ ...storage, decode: () => decodeBlocks(storage) })).toEqual(type.decode(bytesOf(bytes), origin));
  });

  test('is kept in its form with an error far below its own steps', () => {
    // A fit to the same number of bits in the place of the type's own grid would be off by a whole step.
    const isExact = type.form !== 'int8b32' || !['Q5_1', 'Q5_K', 'Q2_K', 'Q3_K', 'Q6_K', 'IQ2_XS', 'IQ2_S', 'IQ1_M'].includes(name);
    expect(errorOf(type.form!)).toBeLessThanOrEqual((isExact ? 1e-6 : 1.001 / 255) * largest(expected));
  });

  test('fits 8 bits where it is stacked with other types', () => {
    const fitted = toFloat32(memoryStorage('int8b32', [512], encode(expected, 'int8b32', origin)));
    const fit = largest(fitted.map((value, i) => value - expected[i]!));
    expect(errorOf('int8b32')).toBeLessThanOrEqual(1.05 * fit + 1e-6 * largest(expected));
  });
});

test('values of another type do not become blocks of GGML', () => {
  expect(() => encode(new Float32Array(256), 'ggml.Q4_K', origin)).toThrow('cannot become ggml.Q4_K');
});
