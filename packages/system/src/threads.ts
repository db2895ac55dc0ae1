import { availableParallelism } from 'node:os';
import { system } from './library.ts';

/**
 * The number of threads for a step: one for each physical core that this process may use. With a second thread on a core, or more threads than the
 * container's quota, all threads wait at every node.
 */
export function defaultThreads(): number {
  return Math.max(
    1,
    Math.min(availableParallelism(), system.cores() ?? Number.POSITIVE_INFINITY, system.quota() ?? Number.POSITIVE_INFINITY),
  );
}
