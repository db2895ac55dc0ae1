import { lazy, type OpenLibrary, type OperatingSystem } from './operating-system.ts';

const memCommit = 0x1000;
const memReserve = 0x2000;
const memDecommit = 0x4000;
const memRelease = 0x8000;
const pageReadWrite = 4;
/** RelationProcessorCore of GetLogicalProcessorInformationEx. */
const processorCores = 0;

export function windows(open: OpenLibrary): OperatingSystem {
  const kernel = lazy(() => {
    const library = open('kernel32.dll');
    return {
      allocate: library.func('void *VirtualAlloc(void *address, size_t bytes, uint32_t type, uint32_t protection)'),
      free: library.func('int VirtualFree(void *address, size_t bytes, uint32_t type)'),
      lastError: library.func('uint32_t GetLastError()'),
      variable: library.func('uint32_t GetEnvironmentVariableA(const char *name, void *value, uint32_t bytes)'),
      setVariable: library.func('int SetEnvironmentVariableA(const char *name, const char *value)'),
      self: library.func('void *GetCurrentProcess()'),
      terminate: library.func('int TerminateProcess(void *process, uint32_t code)'),
      processors: library.func('int GetLogicalProcessorInformationEx(int relation, void *records, void *bytes)'),
    };
  });
  return {
    libraryFile: (stem) => new RegExp(`^${stem}(\\..+)?\\.dll$`),
    libraryNeeds: 'it needs the Visual C++ Redistributable of Microsoft.',
    memory: {
      pageBytes: () => 4096,
      allocate: (byteLength) => kernel().allocate(null, byteLength, memCommit | memReserve, pageReadWrite),
      map: () => null,
      free: (address) => void kernel().free(address, 0, memRelease),
      empty: () => false,
      discard(address, byteLength, isFile) {
        if (isFile) return; // its bytes were read, not mapped
        kernel().free(address, byteLength, memDecommit);
        kernel().allocate(address, byteLength, memCommit, pageReadWrite);
      },
      trim: () => undefined,
      lastError: () => kernel().lastError(),
    },
    setVariable(name, value) {
      if (kernel().variable(name, null, 0) === 0) kernel().setVariable(name, value);
    },
    end: (exitCode) => void kernel().terminate(kernel().self(), exitCode),
    cores: () => coresOf((records, bytes) => kernel().processors(processorCores, records, bytes) !== 0),
    quota: () => null,
  };
}

/** Counts the records, one for each core. A record has its size at byte 4. */
function coresOf(read: (records: Uint8Array | null, bytes: Uint32Array) => boolean): number | null {
  const bytes = new Uint32Array(1);
  read(null, bytes);
  const records = new Uint8Array(bytes[0]!);
  if (records.length === 0 || !read(records, bytes)) return null;
  const view = new DataView(records.buffer);
  let cores = 0;
  for (let at = 0; at + 8 <= bytes[0]!; at += view.getUint32(at + 4, true)) cores += 1;
  return cores;
}
