import { OrtBackend } from '@graft/cpu/api';
import { Backend } from '@graft/engine';
import llama4Hpu from '@graft/llama4-hpu';
import { definePlugin } from '@graft/registry';

const platform = (name: string) => ({ name, modes: ['compile', 'lazy', 'eager'], detect: () => 'emulated' as const });

/** The overrides of llama4-hpu in compile mode on cpu's full compilation, as platform `hpu`, and beside it `plain`, the same without overrides. */
export default definePlugin({
  ...llama4Hpu,
  platforms: [platform('hpu'), platform('plain')],
  bind(bind) {
    bind(Backend).to(OrtBackend);
  },
});
