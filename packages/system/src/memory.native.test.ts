import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DisposedError } from '@graft/common';
import { afterAll, expect, test } from 'vitest';
import { MappedFile, NativeMemoryError, PinnedBuffer } from './index.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-memory-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('pinned memory is zeroed, and its views share it', () => {
  using buffer = PinnedBuffer.allocate(64);
  expect(buffer.bytes().every((byte) => byte === 0)).toBe(true);
  buffer.elements('float32', 24, 2).set([1, 2]);
  expect([...buffer.elements('float32', 20, 4)]).toEqual([0, 1, 2, 0]);
});

test('views read as zeros after dispose, and the buffer cannot be used again', () => {
  const buffer = PinnedBuffer.allocate(8);
  const view = buffer.bytes().fill(1);
  buffer[Symbol.dispose]();
  buffer[Symbol.dispose]();
  expect([...view]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  expect(() => buffer.bytes()).toThrow(DisposedError);
  expect(() => buffer.pointer).toThrow(DisposedError);
});

test('a range out of bounds, a misaligned offset and too much memory are refused', () => {
  using buffer = PinnedBuffer.allocate(16);
  expect(() => buffer.bytes(8, 9)).toThrow(NativeMemoryError);
  expect(() => buffer.discard(8, 9)).toThrow(NativeMemoryError);
  expect(() => buffer.bytes(-1, 2)).toThrow(NativeMemoryError);
  expect(() => buffer.elements('float32', 2, 1)).toThrow('not a multiple of 4');
  expect(() => PinnedBuffer.allocate(-1)).toThrow(NativeMemoryError);
  expect(() => PinnedBuffer.allocate(2 ** 50)).toThrow('has no room');
});

test('a mapped file is read by offset, and writing to a view does not change the file', () => {
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
    expect([...file.elements('float32', offset, 2)]).toEqual([offset % 1000, 5]);
  }
  expect(file.elements('uint8', 2 ** 31 - 4096, 2 ** 32)).toHaveLength(2 ** 32);
  expect(() => file.bytes()).toThrow('the longest is 4294967296');
});

test('where a file cannot be mapped, its bytes are read', () => {
  const path = join(folder, 'read');
  writeFileSync(path, Uint8Array.of(3, 1, 4, 1, 5));
  using file = MappedFile.open(path, () => null);
  expect([...file.bytes()]).toEqual([3, 1, 4, 1, 5]);
});

test('a missing or empty file is refused with its path', () => {
  writeFileSync(join(folder, 'empty'), '');
  expect(() => MappedFile.open(join(folder, 'empty'))).toThrow(/empty[\s\S]*graft-memory/);
  expect(() => MappedFile.open(join(folder, 'absent'))).toThrow(NativeMemoryError);
});
