import { availableParallelism } from 'node:os';
import type { Platform } from '@graft/registry';

/** The platform that every machine has. It serves when no other platform finds a device. Its only mode compiles the whole model as one graph. */
export const cpuPlatform: Platform = {
  name: 'cpu',
  fallback: true,
  modes: ['full'],
  detect: () => ({ device: 'device', reason: `${availableParallelism()} logical processors for this process` }),
};
