import { definePlugin } from '@graft/registry';
import { llama4On } from './plugin.ts';

/** The overrides of this package on the platforms of `@graft/gpu`, which compile for static shapes too. */
export default definePlugin({ name: 'llama4-gpu', graft: '^0.1.0', ...llama4On(['cuda', 'vulkan', 'metal']) });
