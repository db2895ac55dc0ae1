import { expect, test } from 'vitest';
import { systemOf } from './library.ts';

// The names that the published packages have.
test.each([
  ['linux', 'libggml-base.so', 'libggml.v0.5.0.so', 'libonnxruntime.so.1'],
  ['darwin', 'libggml-base.dylib', 'libggml.metal.v0.4.0.dylib', 'libonnxruntime.1.30.0.dylib'],
  ['win32', 'ggml-base.dll', 'ggml.v0.4.0.dll', 'onnxruntime.dll'],
])('a library is known by its name on %s', (platform, ...files) => {
  const patterns = ['ggml-base', 'ggml', 'onnxruntime'].map((stem) => systemOf(platform).libraryFile(stem));
  expect(files.map((file) => patterns.map((pattern) => pattern.test(file)))).toEqual([
    [true, false, false],
    [false, true, false],
    [false, false, true],
  ]);
});

test('a system without a file is treated as Linux', () => {
  expect(systemOf('freebsd').libraryFile('ggml').test('libggml.so')).toBe(true);
});
