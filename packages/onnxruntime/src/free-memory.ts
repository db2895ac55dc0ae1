import { type NativeFunction, openLibrary } from './library.ts';

let trim: NativeFunction | null = null;

/**
 * Gives memory that native code has freed back to the system. glibc keeps it for the next allocation, which after a session is hundreds of megabytes that
 * nothing may ever ask for again. Blocks for some tens of milliseconds.
 */
export function returnFreeMemory(): void {
  trim ??= openLibrary(null).func('int malloc_trim(size_t)');
  trim(0);
}
