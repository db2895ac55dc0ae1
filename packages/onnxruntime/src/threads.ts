import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/**
 * The number of threads for a step: one for each physical core that this process may use. With a second thread on a core, or more threads than the
 * container's quota, all threads wait at every node.
 */
export function defaultThreads(): number {
  return Math.max(1, Math.min(availableParallelism(), physicalCores() ?? Number.POSITIVE_INFINITY, cpuQuota() ?? Number.POSITIVE_INFINITY));
}

/** Cores of this machine, without hyper-threads; null when the system does not say. */
function physicalCores(root = '/sys/devices/system/cpu'): number | null {
  try {
    const names = readdirSync(root).filter((name) => /^cpu\d+$/.test(name));
    const siblings = names.map((name) => readFileSync(`${root}/${name}/topology/thread_siblings_list`, 'utf8').trim());
    return siblings.length === 0 ? null : new Set(siblings).size;
  } catch {
    return null;
  }
}

/** The container's quota of processors (cgroup 2), rounded; null without a limit. */
function cpuQuota(path = '/sys/fs/cgroup/cpu.max'): number | null {
  try {
    const [quota, period] = readFileSync(path, 'utf8').trim().split(' ').map(Number);
    return quota === undefined || period === undefined || !(quota > 0 && period > 0) ? null : Math.max(1, Math.round(quota / period));
  } catch {
    return null;
  }
}
