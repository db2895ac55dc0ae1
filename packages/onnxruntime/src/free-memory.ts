import { type NativeFunction, openLibrary } from './library.ts';

let trim: NativeFunction | null = null;

/**
 * Returns memory that native code has freed to the system. glibc otherwise keeps it for later allocations: hundreds of megabytes after a session.
 * Blocks for some tens of milliseconds.
 */
export function returnFreeMemory(): void {
  trim ??= openLibrary(null).func('int malloc_trim(size_t)');
  trim(0);
}
