import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { findLibraries, GgmlLibraryError, GgmlPlatformError, loadGgml, probeDevices } from './index.ts';
import { Ggml } from './library.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-ggml-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('the libraries lie in the installed package', () => {
  expect(existsSync(join(findLibraries(), 'libggml-base.so'))).toBe(true);
});

test.each([
  ['darwin', 'arm64'],
  ['win32', 'x64'],
  ['linux', 'arm64'],
])('%s %s is refused by name', (platform, arch) => {
  expect(() => findLibraries(null, { platform, arch })).toThrow(GgmlPlatformError);
  expect(() => findLibraries(null, { platform, arch })).toThrow(`this is ${platform} (${arch})`);
});

test('a package that is not installed is named with its version', () => {
  expect(() => findLibraries('vulkan')).toThrow(/@node-llama-cpp\/linux-x64-vulkan is not installed[\s\S]*@3\.22\.1/);
});

test('a folder without the libraries is refused', () => {
  expect(() => new Ggml(folder)).toThrow(GgmlLibraryError);
});

test('a process loads ggml once, and adds an accelerator to it', () => {
  const library = loadGgml(null);
  expect(library.version).toBe('0.25.1');
  expect(loadGgml(null)).toBe(library);
  expect(() => loadGgml('cuda')).toThrow('@node-llama-cpp/linux-x64-cuda is not installed');
});

test('devices are tried in another process', async () => {
  expect(await probeDevices()).toEqual([expect.objectContaining({ name: 'CPU', fault: null })]);
});
