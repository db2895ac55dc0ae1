import koffi from 'koffi';
import { expect, test } from 'vitest';
import { openLibrary } from './library.ts';
import { returnFreeMemory } from './memory.ts';

test('memory that was freed goes back to the system', () => {
  const library = openLibrary(null);
  const [malloc, free] = [library.func('void *malloc(size_t)'), library.func('void free(void *)')];
  // Blocks small enough for the heap; the last one stays, so that glibc does not shrink it on its own.
  const blocks = Array.from({ length: 2000 }, () => malloc(64 * 1024) as bigint);
  for (const block of blocks) koffi.encode(block, 'uint8_t', new Uint8Array(64 * 1024).fill(1), 64 * 1024);
  for (const block of blocks.slice(0, -1)) free(block);
  const before = process.memoryUsage.rss();
  returnFreeMemory();
  const after = process.memoryUsage.rss();
  free(blocks.at(-1));
  expect((before - after) / 2 ** 20).toBeGreaterThan(100);
});
