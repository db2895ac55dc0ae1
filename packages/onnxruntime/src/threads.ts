import { readdirSync, readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';

/**
 * Threads that a step should use: one for each physical core that this process may use. A second thread on a core, or one more than the
 * quota of its container, makes the others wait at every node.
 */
export function defaultThreads(): number {
  return Math.max(1, Math.min(availableParallelism(), physicalCores() ?? Number.POSITIVE_INFINITY, cpuQuota() ?? Number.POSITIVE_INFINITY));
}

/** Cores of this machine, not counting hyper-threads; null where the system does not tell. */
function physicalCores(root = '/sys/devices/system/cpu'): number | null {
  try {
    const names = readdirSync(root).filter((name) => /^cpu\d+$/.test(name));
    const siblings = names.map((name) => readFileSync(`${root}/${name}/topology/thread_siblings_list`, 'utf8').trim());
    return siblings.length === 0 ? null : new Set(siblings).size;
  } catch {
    return null;
  }
}

/** Whole processors that the container may use (cgroup 2); null without a limit. */
function cpuQuota(path = '/sys/fs/cgroup/cpu.max'): number | null {
  try {
    const [quota, period] = readFileSync(path, 'utf8').trim().split(' ').map(Number);
    return quota === undefined || period === undefined || !(quota > 0 && period > 0) ? null : Math.max(1, Math.round(quota / period));
  } catch {
    return null;
  }
}
