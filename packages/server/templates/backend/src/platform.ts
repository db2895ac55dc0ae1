import type { Platform } from '@graft/registry';

/**
 * `detect` looks for the device, once, before anything is loaded. It answers `device` (here), `emulated` (chosen by name only) or `absent`, with a reason.
 */
export const platform: Platform = {
  name: 'my-backend',
  modes: ['full'],
  detect: () => ({ device: 'emulated', reason: "Graft's interpreter runs the graphs" }),
};
