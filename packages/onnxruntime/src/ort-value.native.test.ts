import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DisposedError } from '@graft/common';
import { MappedFile, PinnedBuffer } from '@graft/system';
import { afterAll, expect, test } from 'vitest';
import { OrtValue, OrtValueError } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-values-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('a value keeps its memory after the owner of the memory disposed it', () => {
  const buffer = PinnedBuffer.from(Uint8Array.of(1, 2, 3, 4));
  const value = OrtValue.over(buffer, 'uint8', [2], 2);
  const { view } = value;
  buffer[Symbol.dispose]();
  expect([...view]).toEqual([3, 4]);
  expect(buffer.released).toBe(false);
  value[Symbol.dispose]();
  expect(buffer.released).toBe(true);
  expect([...view]).toEqual([0, 0]);
  expect(() => value.view).toThrow(DisposedError);
});

test('a value of freed memory, out of bounds or with invalid dims is refused', () => {
  const freed = PinnedBuffer.allocate(8);
  freed[Symbol.dispose]();
  expect(() => OrtValue.over(freed, 'uint8', [4])).toThrow(DisposedError);
  using buffer = PinnedBuffer.allocate(16);
  expect(() => OrtValue.over(buffer, 'float32', [5])).toThrow(OrtValueError);
  expect(() => OrtValue.over(buffer, 'float32', [1], 13)).toThrow(OrtValueError);
  expect(() => OrtValue.allocate('float32', [-1])).toThrow(OrtValueError);
  expect(() => OrtValue.allocate('float32', [1.5])).toThrow(OrtValueError);
  expect(() => OrtValue.over(buffer, 'uint8', [1], 0.5)).toThrow(OrtValueError);
  expect(() => OrtValue.from('int64', [2], [1n])).toThrow(OrtValueError);
  expect(() => OrtValue.from('float16', [1], [1])).toThrow(OrtValueError);
});

test('a scalar has one element, and a tensor with a zero dim has none', () => {
  using scalar = OrtValue.from('int32', [], [7]);
  using none = OrtValue.allocate('float32', [0, 4]);
  expect([...scalar.view]).toEqual([7]);
  expect(none.view).toHaveLength(0);
});

test('a value may lie above 4 GiB in a file', () => {
  const path = join(folder, 'sparse');
  writeFileSync(path, '');
  const byteLength = 9 * 2 ** 30 + 24;
  truncateSync(path, byteLength); // sparse: takes no room
  using file = MappedFile.open(path);
  for (const offset of [2 ** 32 - 4, 6 * 2 ** 30, byteLength - 8]) {
    file.elements('float32', offset, 2).set([offset % 1000, 5]);
    using value = OrtValue.over(file, 'float32', [2], offset);
    expect([...value.view]).toEqual([offset % 1000, 5]);
  }
});
