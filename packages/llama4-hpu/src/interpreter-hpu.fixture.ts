import { Backend } from '@graft/engine';
import { InterpreterBackend } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import llama4Hpu from './plugin.ts';

const platform = (name: string) => ({ name, modes: ['compile', 'lazy', 'eager'], detect: () => 'emulated' as const });

/** The plugin's overrides on a platform `hpu` that the interpreter emulates, and beside it `plain`, the same without overrides. */
export default definePlugin({
  ...llama4Hpu,
  platforms: [platform('hpu'), platform('plain')],
  bind(bind) {
    bind(Backend).to(InterpreterBackend);
  },
});
