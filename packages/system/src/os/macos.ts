import { lazy, type OpenLibrary, type OperatingSystem } from './operating-system.ts';
import { posix } from './posix.ts';

export function macos(open: OpenLibrary): OperatingSystem {
  const { memory, ...shared } = posix(open, { anonymous: 0x1000, noReserve: 0x40 });
  const sysctl = lazy(() =>
    open(null).func('int sysctlbyname(const char *name, void *value, void *length, void *next, size_t nextLength)'),
  );
  /** A number of the kernel; null for an unknown name. */
  const numberOf = (name: string): number | null => {
    const value = new Int32Array(1);
    return sysctl()(name, value, BigUint64Array.of(4n), null, 0) === 0 ? value[0]! : null;
  };
  return {
    ...shared,
    libraryFile: (stem) => new RegExp(`^lib${stem}(\\..+)?\\.(dylib|so)$`), // a plug-in ends in .so here too
    libraryNeeds: 'it needs a newer macOS.',
    memory: {
      ...memory,
      // madvise does not make private pages zero on macOS.
      discard(address, byteLength, isFile) {
        if (isFile) memory.discard(address, byteLength, isFile);
        else memory.empty(address, byteLength);
      },
    },
    // The fast cores: a step is as slow as its slowest thread.
    cores: () => numberOf('hw.perflevel0.physicalcpu') ?? numberOf('hw.physicalcpu'),
    quota: () => null,
  };
}
