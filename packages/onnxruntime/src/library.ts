import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { messageOf } from '@graft/common';
import koffi, { type LibraryHandle } from 'koffi';
import { OrtLibraryError, OrtPlatformError } from './errors.ts';

/** A C function; koffi does not type its arguments. */
export type NativeFunction = ReturnType<LibraryHandle['func']>;

/** koffi runs native code on separate stacks. Its defaults (2 MiB, and 128 KiB off the event loop) overflow without a message. */
const STACK_BYTES = 8 * 2 ** 20;

/**
 * The ONNX Runtime library inside the installed `onnxruntime-node`.
 * @throws OrtPlatformError on anything but Linux; OrtLibraryError when the package or the file is missing.
 */
export function findLibrary({ platform, arch }: { platform: string; arch: string } = process): string {
  if (platform !== 'linux') {
    throw new OrtPlatformError({
      what: `@graft/onnxruntime runs on Linux (x64); this is ${platform} (${arch}).`,
      fix: 'use Linux or a Linux container. Other systems need another memory mapping (mmap, madvise) and file name of the library.',
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
    fix: 'use Linux x64.',
  });
}

/** The version of the installed `onnxruntime-node`. @throws OrtPlatformError, OrtLibraryError */
export function libraryVersion(): string {
  findLibrary();
  return (JSON.parse(readFileSync(join(packageFolder(), 'package.json'), 'utf8')) as { version: string }).version;
}

function packageFolder(): string {
  try {
    return dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
  } catch (cause) {
    throw new OrtLibraryError({ what: 'The package onnxruntime-node is not installed.', fix: 'npm install onnxruntime-node.', cause });
  }
}

/** koffi unloads a library when its handle is collected, and a function decoded from a pointer does not prevent that. This list does. */
const openLibraries: LibraryHandle[] = [];

/** Loads a shared library for the life of the process. `null` is the process itself (libc). @throws OrtLibraryError */
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
 * Turns ONNX Runtime's telemetry off, unless the user has set the variable. The C API can do so only after an environment exists, and that already writes a
 * device id and opens a store of events. This calls `setenv` of libc, because a worker's `process.env` is a copy that native code does not see.
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
      what: `koffi's stacks are too small (${sync} and ${async} bytes instead of ${STACK_BYTES}), and a library that is already loaded prevents a change.`,
      fix: `call koffi.config({ sync_stack_size: ${STACK_BYTES}, async_stack_size: ${STACK_BYTES} }) before that library is loaded, or import @graft/onnxruntime first.`,
      cause,
    });
  }
}
