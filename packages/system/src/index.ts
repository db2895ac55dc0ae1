export { type ElementType, elementTypes, type TypedArrays } from './element-type.ts';
export { NativeLibraryError, NativeMemoryError } from './errors.ts';
export { type NativeFunction, openLibrary, system, systemOf } from './library.ts';
export { MappedFile, type MemoryRegion, PinnedBuffer, returnFreeMemory } from './memory.ts';
export type { OperatingSystem } from './os/operating-system.ts';
export { defaultThreads } from './threads.ts';
