import { ModelRunnerOf } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import llama4Hpu from './plugin.ts';
import { createHpuModelRunner } from './runner.ts';

const platform = (name: string) => ({ name, modes: ['compile'], detect: () => 'emulated' as const });

/** The emulated device as platform `hpu`, and beside it `plain`, the same without overrides. */
export default definePlugin({
  ...llama4Hpu,
  platforms: [platform('hpu'), platform('plain')],
  bindEngine(bind) {
    for (const name of ['hpu', 'plain']) bind.bind(ModelRunnerOf(name)).toConstantValue(createHpuModelRunner);
  },
});
