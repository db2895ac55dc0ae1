import type { LibraryHandle } from 'koffi';

/** What differs between operating systems. Each one is a file of this folder. */
export interface OperatingSystem {
  /** The file of a library, for example `onnxruntime`. A version may stand in its name. */
  libraryFile(stem: string): RegExp;
  /** What a library needs, for the error when it does not load. */
  readonly libraryNeeds: string;
  readonly memory: SystemMemory;
  /** Sets a variable for native code, unless it is set: a worker's `process.env` is a copy that native code does not see. */
  setVariable(name: string, value: string): void;
  /** Ends the process at once, in any thread and state. */
  end(exitCode: number): void;
  /** Cores without hyper-threads that a step should use; null when the system does not say. */
  cores(): number | null;
  /** The quota of processors of this process, rounded; null without a limit. */
  quota(): number | null;
}

/** Pages of memory outside JavaScript's heap. Addresses and lengths are whole pages. */
export interface SystemMemory {
  pageBytes(): number;
  /** Zeroed pages; null if the system has too few. */
  allocate(byteLength: number): bigint | null;
  /** A file as a private copy, read when it is used. Null if it cannot be mapped: its bytes must then be read. */
  map(fd: number, byteLength: number): bigint | null;
  free(address: bigint, byteLength: number): void;
  /** Gives pages back and leaves zeros at their addresses until `free`. False if the system cannot do so. */
  empty(address: bigint, byteLength: number): boolean;
  /** Gives pages back. A mapped file is read again at the next use; other pages become zero. */
  discard(address: bigint, byteLength: number, isFile: boolean): void;
  /** Returns memory that native code has freed. */
  trim(): void;
  /** The system's number of the last error. */
  lastError(): number;
}

/** Opens a library by its path; null is the process itself. */
export type OpenLibrary = (path: string | null) => LibraryHandle;

/** The result of the first call. */
export function lazy<T>(make: () => T): () => T {
  let made: { value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
