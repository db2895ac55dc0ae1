import { messageOf } from '@graft/common';
import koffi, { type LibraryHandle } from 'koffi';
import { NativeLibraryError } from './errors.ts';
import { linux } from './os/linux.ts';
import { macos } from './os/macos.ts';
import type { OperatingSystem } from './os/operating-system.ts';
import { windows } from './os/windows.ts';

/** A C function; koffi does not type its arguments. */
export type NativeFunction = ReturnType<LibraryHandle['func']>;

/** The systems by Node's name. An unknown one is treated as Linux. */
const systems: Partial<Record<NodeJS.Platform, typeof linux>> = { linux, darwin: macos, win32: windows };

/** The system with Node's name `platform`. */
export function systemOf(platform: string): OperatingSystem {
  return (systems[platform as NodeJS.Platform] ?? linux)(openLibrary);
}

/** koffi runs native code on separate stacks. Its defaults (2 MiB, and 128 KiB off the event loop) overflow without a message. */
const stackBytes = 8 * 2 ** 20;

/** koffi unloads a library when its handle is collected, and a function decoded from a pointer does not prevent that. This list does. */
const opened: LibraryHandle[] = [];

/** Loads a shared library for the life of the process. `null` is the process itself. @throws NativeLibraryError */
export function openLibrary(path: string | null): LibraryHandle {
  ensureStacks();
  try {
    const library = koffi.load(path);
    opened.push(library);
    return library;
  } catch (cause) {
    throw new NativeLibraryError({
      what: `The library did not load: ${messageOf(cause)}`,
      where: path ?? 'this process',
      fix: system.libraryNeeds,
      cause,
    });
  }
}

function ensureStacks(): void {
  const { sync_stack_size: sync = 0, async_stack_size: async = 0 } = koffi.config();
  if (sync >= stackBytes && async >= stackBytes) return;
  try {
    koffi.config({ sync_stack_size: Math.max(sync, stackBytes), async_stack_size: Math.max(async, stackBytes) });
  } catch (cause) {
    throw new NativeLibraryError({
      what: `koffi's stacks are too small (${sync} and ${async} bytes instead of ${stackBytes}), and a library that is already loaded prevents a change.`,
      fix: `call koffi.config({ sync_stack_size: ${stackBytes}, async_stack_size: ${stackBytes} }) before that library is loaded, or import Graft first.`,
      cause,
    });
  }
}

/** The system of this process. */
export const system = systemOf(process.platform);
