import { availableParallelism } from 'node:os';
import type { Platform } from '@graft/registry';

/** The platform every machine has; chosen when no other has a device. One mode: the whole model as one graph. */
export const cpuPlatform: Platform = {
  name: 'cpu',
  fallback: true,
  modes: ['full'],
  detect: () => ({ device: 'device', reason: `${availableParallelism()} logical processors for this process` }),
};
