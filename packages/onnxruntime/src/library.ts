import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { messageOf } from '@graft/common';
import koffi, { type LibraryHandle } from 'koffi';
import { OrtLibraryError, OrtPlatformError } from './errors.ts';

/** A C function as koffi gives it: its arguments are not typed. */
export type NativeFunction = ReturnType<LibraryHandle['func']>;

/** koffi runs native code on stacks of its own; its defaults (2 MiB, 128 KiB off the event loop) overflow without a message. */
const STACK_BYTES = 8 * 2 ** 20;

/**
 * The ONNX Runtime library inside the installed `onnxruntime-node`.
 * @throws OrtPlatformError on anything but Linux; OrtLibraryError when the package or the file is missing.
 */
export function findLibrary({ platform, arch }: { platform: string; arch: string } = process): string {
  if (platform !== 'linux') {
    throw new OrtPlatformError({
      what: `@graft/onnxruntime runs on Linux (x64); this is ${platform} (${arch}).`,
      fix: "run it on Linux or in a Linux container. Missing for other systems: this package's memory mapping (mmap, madvise) and the library's file name.",
    });
  }
  const bin = join(packageFolder(), 'bin');
  const versions = existsSync(bin) ? readdirSync(bin).filter((name) => name.startsWith('napi-v')) : [];
  const newestFirst = versions.sort((a, b) => Number(b.slice(6)) - Number(a.slice(6)));
  for (const version of newestFirst) {
    const folder = join(bin, version, platform, arch);
    const file = existsSync(folder) ? readdirSync(folder).find((name) => name.startsWith('libonnxruntime.so')) : undefined;
    if (file !== undefined) return join(folder, file);
  }
  throw new OrtPlatformError({
    what: `onnxruntime-node has no library for ${platform} (${arch}).`,
    where: bin,
    fix: 'run it on Linux x64.',
  });
}

function packageFolder(): string {
  try {
    return dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
  } catch (cause) {
    throw new OrtLibraryError({ what: 'The package onnxruntime-node is not installed.', fix: 'npm install onnxruntime-node.', cause });
  }
}

/** koffi unloads a library whose handle is collected, and functions decoded from pointers into it do not keep it; so this does. */
const openLibraries: LibraryHandle[] = [];

/** Loads a shared library for the life of the process, after making sure of koffi's stacks. `null` is the process itself (libc). */
export function openLibrary(path: string | null): LibraryHandle {
  ensureStacks();
  try {
    const library = koffi.load(path);
    openLibraries.push(library);
    return library;
  } catch (cause) {
    throw new OrtLibraryError({
      what: `The library did not load: ${messageOf(cause)}`,
      where: path ?? 'this process',
      fix: 'it needs glibc and libstdc++ (a Debian or Ubuntu base, not Alpine).',
      cause,
    });
  }
}

/**
 * Turns ONNX Runtime's telemetry off, unless the user has set the variable. Its C API could do so only for an environment that exists, which has then written a
 * device id and opened a store of events. `setenv` of libc, because `process.env` of a worker is a copy that native code does not see.
 */
export function disableTelemetry(): void {
  openLibrary(null).func('int setenv(const char *name, const char *value, int overwrite)')('ORT_DISABLE_TELEMETRY', '1', 0);
}

function ensureStacks(): void {
  const { sync_stack_size: sync = 0, async_stack_size: async = 0 } = koffi.config();
  if (sync >= STACK_BYTES && async >= STACK_BYTES) return;
  try {
    koffi.config({ sync_stack_size: Math.max(sync, STACK_BYTES), async_stack_size: Math.max(async, STACK_BYTES) });
  } catch (cause) {
    throw new OrtLibraryError({
      what: `koffi's stacks are too small (${sync} and ${async} bytes; ${STACK_BYTES} each are needed), and another library was loaded through koffi before.`,
      fix: `call koffi.config({ sync_stack_size: ${STACK_BYTES}, async_stack_size: ${STACK_BYTES} }) before that library is loaded, or import @graft/onnxruntime first.`,
      cause,
    });
  }
}
