import koffi from 'koffi';
import { lazy, type OpenLibrary, type OperatingSystem, type SystemMemory } from './operating-system.ts';

const readAndWrite = 3;
const mapPrivate = 2;
const mapFixed = 0x10;
const failed = 2n ** 64n - 1n;

/** The numbers that POSIX leaves to the system. */
interface MapFlags {
  readonly anonymous: number;
  readonly noReserve: number;
}

/** What Linux and macOS share. */
export function posix(open: OpenLibrary, flags: MapFlags): Pick<OperatingSystem, 'setVariable' | 'end'> & { memory: SystemMemory } {
  const libc = lazy(() => {
    const library = open(null);
    return {
      getpagesize: library.func('int getpagesize()'),
      mmap: library.func('void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)'),
      munmap: library.func('int munmap(void *address, size_t length)'),
      madvise: library.func('int madvise(void *address, size_t length, int advice)'),
      setenv: library.func('int setenv(const char *name, const char *value, int overwrite)'),
      exit: library.func('void _exit(int code)'),
    };
  });
  const map = (address: bigint | null, byteLength: number, more: number, fd: number): bigint | null => {
    const found: bigint = libc().mmap(address, byteLength, readAndWrite, mapPrivate | more, fd, 0);
    return found === failed ? null : found;
  };
  return {
    setVariable: (name, value) => void libc().setenv(name, value, 0),
    end: (exitCode) => void libc().exit(exitCode),
    memory: {
      pageBytes: () => libc().getpagesize(),
      allocate: (byteLength) => map(null, byteLength, flags.anonymous, -1),
      map: (fd, byteLength) => map(null, byteLength, flags.noReserve, fd),
      free: (address, byteLength) => void libc().munmap(address, byteLength),
      empty: (address, byteLength) => map(address, byteLength, flags.anonymous | flags.noReserve | mapFixed, -1) !== null,
      discard: (address, byteLength) => void libc().madvise(address, byteLength, 4),
      trim: () => undefined,
      lastError: () => koffi.errno(),
    },
  };
}
