import { readdirSync, readFileSync } from 'node:fs';
import { lazy, type OpenLibrary, type OperatingSystem } from './operating-system.ts';
import { posix } from './posix.ts';

export function linux(open: OpenLibrary): OperatingSystem {
  const { memory, ...shared } = posix(open, { anonymous: 0x20, noReserve: 0x4000 });
  const trim = lazy(() => {
    try {
      return open(null).func('int malloc_trim(size_t kept)');
    } catch {
      return null; // only glibc has it
    }
  });
  return {
    ...shared,
    libraryFile: (stem) => new RegExp(`^lib${stem}(\\..+)?\\.so(\\.\\d+)*$`),
    libraryNeeds: 'it needs glibc and libstdc++ (a Debian or Ubuntu base, not Alpine).',
    memory: { ...memory, trim: () => void trim()?.(0) },
    cores: physicalCores,
    quota: cgroupQuota,
  };
}

function physicalCores(root = '/sys/devices/system/cpu'): number | null {
  try {
    const names = readdirSync(root).filter((name) => /^cpu\d+$/.test(name));
    const siblings = names.map((name) => readFileSync(`${root}/${name}/topology/thread_siblings_list`, 'utf8').trim());
    return siblings.length === 0 ? null : new Set(siblings).size;
  } catch {
    return null;
  }
}

/** Of the container (cgroup 2). */
function cgroupQuota(path = '/sys/fs/cgroup/cpu.max'): number | null {
  try {
    const [quota, period] = readFileSync(path, 'utf8').trim().split(' ').map(Number);
    return quota === undefined || period === undefined || !(quota > 0 && period > 0) ? null : Math.max(1, Math.round(quota / period));
  } catch {
    return null;
  }
}
