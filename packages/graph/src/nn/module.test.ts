import { describe, expect, test } from 'vitest';
import { ParameterWithoutStorageError, StorageMismatchError } from '../errors.ts';
import { Identity, ModuleList } from './containers.ts';
import { lendChild, Module } from './module.ts';
import { Buffer, Parameter } from './parameter.ts';
import { float16ToNumber, memoryStorage, toFloat32 } from './storage.ts';

class Linear extends Module {
  readonly weight = new Parameter([2, 32]);
}

class Block extends Module {
  readonly up = new Linear();
  readonly down: Linear;
  readonly table = new Buffer([1], Float32Array.of(1));
  readonly kept = new Buffer([1], Float32Array.of(1), { persistent: true });
  constructor(down = new Linear()) {
    super();
    this.down = down;
  }
}

describe('a module tree', () => {
  test('names what stands in its fields and lists, depth first', () => {
    const list = new ModuleList([new Block(), new Block()]);
    expect([...list.namedModules('layers')].map(([name]) => name)).toEqual([
      'layers',
      'layers.0',
      'layers.0.up',
      'layers.0.down',
      'layers.1',
      'layers.1.up',
      'layers.1.down',
    ]);
    expect([...list.namedParameters()].map(([name]) => name)).toEqual(['0.up.weight', '0.down.weight', '1.up.weight', '1.down.weight']);
  });

  test('a tied parameter and a shared module come once, under the first name', () => {
    const shared = new Linear();
    const list = new ModuleList([new Block(shared), new Block(shared)]);
    expect([...list.namedParameters()].map(([name]) => name)).toEqual(['0.up.weight', '0.down.weight', '1.up.weight']);
  });

  test('a lent child belongs to its owner', () => {
    const host = new Identity();
    lendChild(host, 'part', new Linear());
    expect([...host.namedChildren()]).toEqual([]);
    expect([...host.namedParameters()]).toEqual([]);
    expect((host as unknown as { part: Linear }).part).toBeInstanceOf(Linear);
  });
});

describe('a parameter', () => {
  test('has a shape before it has values', () => {
    const { weight } = new Linear();
    expect([weight.shape, weight.dtype, weight.storage]).toEqual([[2, 32], 'float32', null]);
    expect(() => weight.toFloat32()).toThrow(ParameterWithoutStorageError);
  });

  test('takes its format from the storage and refuses one of another shape', () => {
    const { weight } = new Linear();
    weight.setStorage(memoryStorage('bfloat16', [2, 32], { data: new Uint16Array(64).fill(0x3fc0) }));
    expect(weight.dtype).toBe('bfloat16');
    expect(weight.toFloat32()).toEqual(new Float32Array(64).fill(1.5));
    const other = memoryStorage('float32', [64], { data: new Float32Array(64) });
    expect(() => weight.setStorage(other)).toThrow(StorageMismatchError);
    expect(weight.dtype).toBe('bfloat16');
  });
});

describe('a storage gives its values in float32', () => {
  const values = (format: 'int8b32' | 'int4b32' | 'int4b32o', arrays: Record<string, ArrayBufferView>) =>
    Array.from(toFloat32(memoryStorage(format, [1, 64], arrays)));

  test('int8b32: (q - zero point) * scale, a block of 32 at a time', () => {
    const quants = Uint8Array.from({ length: 64 }, (_, i) => 100 + i);
    const result = values('int8b32', { quants, scales: Float32Array.of(0.5, 2), zeroPoints: Uint8Array.of(100, 128) });
    expect(result).toEqual(Array.from({ length: 64 }, (_, i) => (i < 32 ? i * 0.5 : (i - 28) * 2)));
  });

  test('int4b32: (q - 8) * scale, low nibble first', () => {
    const result = values('int4b32', { quants: new Uint8Array(32).fill(0xf1), scales: Float32Array.of(1, 3) });
    expect(result.slice(0, 2)).toEqual([-7, 7]);
    expect(result.slice(32, 34)).toEqual([-21, 21]);
  });

  test('int4b32o: (q - zero point) * scale + offset', () => {
    const arrays = { scales: Float32Array.of(1, 3), zeroPoints: Uint8Array.of(1, 15), offsets: Float32Array.of(0.25, -1) };
    const result = values('int4b32o', { quants: new Uint8Array(32).fill(0xf1), ...arrays });
    expect(result.slice(0, 2)).toEqual([0.25, 14.25]);
    expect(result.slice(32, 34)).toEqual([-43, -1]);
  });

  test('float16, with subnormal, infinite and negative numbers', () => {
    expect([0x3c00, 0xc100, 0x0001, 0x7c00, 0xfc00, 0x0000].map(float16ToNumber)).toEqual([
      1,
      -2.5,
      2 ** -24,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      0,
    ]);
    expect(float16ToNumber(0x7e00)).toBeNaN();
  });

  test('bytes at an odd offset are read as well', () => {
    const bytes = new Uint8Array(9);
    new DataView(bytes.buffer).setFloat32(1, 2.5, true);
    new DataView(bytes.buffer).setFloat32(5, -1, true);
    const read = () => bytes.subarray(1);
    const storage = { format: 'float32', parts: { data: { dtype: 'float32', dims: [2], location: null, read } } } as const;
    expect(Array.from(toFloat32(storage))).toEqual([2.5, -1]);
  });

  test('parts that do not fill the shape, and rows that blocks do not fill, are refused', () => {
    expect(() => memoryStorage('float32', [3], { data: new Float32Array(2) })).toThrow('needs 12 bytes and has 8');
    expect(() => memoryStorage('int4b32', [2, 33], {})).toThrow('not a multiple of 32');
  });
});
