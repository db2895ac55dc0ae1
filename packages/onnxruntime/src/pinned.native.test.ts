import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DisposedError } from '@graft/common';
import { afterAll, expect, test } from 'vitest';
import { MappedFile, OrtMemoryError, OrtValueError, PinnedBuffer, Value } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-pinned-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('pinned memory is zeroed, and slices and views share it', () => {
  using buffer = PinnedBuffer.allocate(64);
  expect(buffer.bytes().every((byte) => byte === 0)).toBe(true);
  const slice = buffer.slice(16, 32).slice(8);
  slice.elements('float32').set([1, 2]);
  expect([...buffer.elements('float32', 24, 2)]).toEqual([1, 2]);
  expect([slice.byteOffset, slice.byteLength, slice.pointer - buffer.pointer]).toEqual([24, 24, 24n]);
});

test('views read as zeros after dispose, and using the buffer again says so', () => {
  const buffer = PinnedBuffer.allocate(8);
  const view = buffer.bytes().fill(1);
  const slice = buffer.slice(0, 4);
  buffer[Symbol.dispose]();
  buffer[Symbol.dispose]();
  expect([...view]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  expect(() => buffer.bytes()).toThrow(DisposedError);
  expect(() => slice.pointer).toThrow(DisposedError);
  expect(() => Value.over(slice, 'uint8', [4])).toThrow(DisposedError);
});

test('a value keeps its memory after the owner has disposed it, until it is disposed itself', () => {
  const buffer = PinnedBuffer.from(Uint8Array.of(1, 2, 3, 4));
  const value = Value.over(buffer, 'uint8', [2], 2);
  const { view } = value;
  buffer[Symbol.dispose]();
  expect([...view]).toEqual([3, 4]);
  expect(buffer.released).toBe(false);
  value[Symbol.dispose]();
  expect(buffer.released).toBe(true);
  expect([...view]).toEqual([0, 0]);
  expect(() => value.view).toThrow(DisposedError);
});

test('ranges outside, odd alignment and impossible dims are refused', () => {
  using buffer = PinnedBuffer.allocate(16);
  expect(() => buffer.slice(8, 9)).toThrow(OrtMemoryError);
  expect(() => buffer.slice(8, 8).bytes(4, 5)).toThrow(OrtMemoryError);
  expect(() => buffer.bytes(-1, 2)).toThrow(OrtMemoryError);
  expect(() => buffer.elements('float32', 2, 1)).toThrow('not a multiple of 4');
  expect(() => PinnedBuffer.allocate(-1)).toThrow(OrtMemoryError);
  expect(() => PinnedBuffer.allocate(2 ** 50)).toThrow('mmap failed');
  expect(() => Value.over(buffer, 'float32', [5])).toThrow(OrtValueError);
  expect(() => Value.over(buffer, 'float32', [1], 13)).toThrow(OrtValueError);
  expect(() => Value.allocate('float32', [-1])).toThrow(OrtValueError);
  expect(() => Value.allocate('float32', [1.5])).toThrow(OrtValueError);
  expect(() => Value.from('int64', [2], [1n])).toThrow(OrtValueError);
});

test('values of every rank: a scalar has one element, a zero dim none', () => {
  using scalar = Value.from('int32', [], [7]);
  using none = Value.allocate('float32', [0, 4]);
  expect([...scalar.view]).toEqual([7]);
  expect(none.view).toHaveLength(0);
});

test('a mapped file is read by offset; writing to a view leaves the file alone', () => {
  const path = join(folder, 'bytes');
  writeFileSync(
    path,
    Uint8Array.from({ length: 10_000 }, (_, index) => index % 251),
  );
  using file = MappedFile.open(path);
  expect(file.byteLength).toBe(10_000);
  expect([...file.bytes(9_998)]).toEqual([9_998 % 251, 9_999 % 251]);
  file.bytes()[0] = 99;
  expect(readFileSync(path)[0]).toBe(0);
  expect(file.bytes()[0]).toBe(99);
  file.discard();
  expect(file.bytes()[0]).toBe(0);
});

test('discarded pinned memory is zero again', () => {
  using buffer = PinnedBuffer.allocate(3 * 4096);
  buffer.bytes().fill(1);
  buffer.discard(4000, 5000); // one whole page lies inside
  expect([buffer.bytes()[4095], buffer.bytes()[4096], buffer.bytes()[8191], buffer.bytes()[8192]]).toEqual([1, 0, 0, 1]);
});

test('a file above 4 GiB is seen through several views', () => {
  const path = join(folder, 'sparse');
  writeFileSync(path, '');
  const byteLength = 9 * 2 ** 30 + 24;
  truncateSync(path, byteLength); // sparse: takes no room
  using file = MappedFile.open(path);
  for (const offset of [8, 2 ** 32 - 4, 6 * 2 ** 30, byteLength - 8]) {
    file.elements('float32', offset, 2).set([offset % 1000, 5]);
    expect([...file.slice(offset, 8).elements('float32')]).toEqual([offset % 1000, 5]);
  }
  expect(file.elements('uint8', 2 ** 31 - 4096, 2 ** 32)).toHaveLength(2 ** 32);
  expect(() => file.bytes()).toThrow('the longest is 4294967296');
});

test('a file that is absent or empty is refused with its path', () => {
  writeFileSync(join(folder, 'empty'), '');
  expect(() => MappedFile.open(join(folder, 'empty'))).toThrow(/empty[\s\S]*graft-pinned/);
  expect(() => MappedFile.open(join(folder, 'absent'))).toThrow(OrtMemoryError);
});
