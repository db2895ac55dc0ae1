import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { OrtPlatformError } from './errors.ts';
import { findLibrary } from './library.ts';

test('the library lies inside the installed onnxruntime-node', () => {
  expect(existsSync(findLibrary({ platform: 'linux', arch: 'x64' }))).toBe(true);
});

test.each([
  ['darwin', 'arm64', 'runs on Linux (x64); this is darwin (arm64)'],
  ['win32', 'x64', 'runs on Linux (x64); this is win32 (x64)'],
  ['linux', 'riscv64', 'has no library for linux (riscv64)'],
])('%s %s is refused by name', (platform, arch, message) => {
  expect(() => findLibrary({ platform, arch })).toThrow(OrtPlatformError);
  expect(() => findLibrary({ platform, arch })).toThrow(message);
});
