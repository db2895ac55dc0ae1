import { definePlugin } from '@graft/registry';
import llama4Hpu from './plugin.ts';

const platform = (name: string) => ({ name, modes: ['compile', 'lazy', 'eager'], detect: () => 'emulated' as const });

/** The emulated device as platform `hpu`, and beside it `plain`, the same without overrides. */
export default definePlugin({
  ...llama4Hpu,
  platforms: [platform('hpu'), platform('plain')],
});
