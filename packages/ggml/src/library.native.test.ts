import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { findLibraries, GgmlCallError, GgmlLibraryError, GgmlPlatformError, loadGgml, probeDevices } from './index.ts';
import { Ggml } from './library.ts';
import { runChild } from './probe.ts';

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

test('a process loads ggml for one accelerator', () => {
  const library = loadGgml(null);
  expect(library.version).toBe('0.25.1');
  expect(loadGgml(null)).toBe(library);
  expect(() => loadGgml('cuda')).toThrow('cannot be loaded again for cuda');
});

test('devices are tried in another process', async () => {
  expect(await probeDevices()).toEqual([expect.objectContaining({ name: 'CPU', fault: null })]);
});

test('an assertion of ggml ends the child alone, and its words are in the error', async () => {
  const library = pathToFileURL(fileURLToPath(new URL('../dist/library.js', import.meta.url))).href;
  const entry = join(folder, 'abort.mjs');
  writeFileSync(
    entry,
    `import { ggml } from ${JSON.stringify(library)};
    const { calls } = ggml();
    const context = calls.ggml_init({ mem_size: 4096, mem_buffer: null, no_alloc: true });
    const tensor = calls.ggml_new_tensor_4d(context, 0, 4, 1, 1, 1);
    calls.ggml_reshape_4d(context, tensor, 5, 1, 1, 1);`,
  );
  const run = runChild(pathToFileURL(entry), [], 30_000);
  await expect(run).rejects.toThrow(GgmlCallError);
  await expect(run).rejects.toThrow(/ended with SIGABRT[\s\S]*GGML_ASSERT/);
});
