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

test('a system without a library is refused by name', () => {
  expect(() => findLibraries(null, { platform: 'freebsd', arch: 'x64' })).toThrow(GgmlPlatformError);
  expect(() => findLibraries(null, { platform: 'freebsd', arch: 'x64' })).toThrow('no library for freebsd (x64)');
});

test.each([
  ['darwin', 'arm64', 'mac-arm64-metal'],
  ['win32', 'x64', 'win-x64'],
])('the package for %s %s is asked for by its name', (platform, arch, name) => {
  expect(() => findLibraries(null, { platform, arch })).toThrow(`npm install @node-llama-cpp/${name}@3.22.1`);
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
