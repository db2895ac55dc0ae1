import { basename } from 'node:path';
import { expect, test } from 'vitest';
import { OrtPlatformError } from './errors.ts';
import { findLibrary } from './library.ts';

test.each([
  ['linux', 'x64', 'libonnxruntime.so.1'],
  ['linux', 'arm64', 'libonnxruntime.so.1'],
  ['darwin', 'arm64', 'libonnxruntime.1.30.0.dylib'],
  ['win32', 'x64', 'onnxruntime.dll'],
])('the library for %s %s lies inside the installed onnxruntime-node', (platform, arch, file) => {
  expect(basename(findLibrary({ platform, arch }))).toBe(file);
});

test('a system without a library is refused by name', () => {
  const [platform, arch] = ['linux', 'riscv64'];
  expect(() => findLibrary({ platform, arch })).toThrow(OrtPlatformError);
  expect(() => findLibrary({ platform, arch })).toThrow('has no library for linux (riscv64)');
});
