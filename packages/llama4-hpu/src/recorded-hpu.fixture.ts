import { BucketPolicy, ModelRunner } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import llama4Hpu from './plugin.ts';
import type { HpuModelRunner } from './runner.ts';

/** The runners that were made, the latest last. */
export const runners: HpuModelRunner[] = [];

/** The plugin with runners that a test can look at, and one bucket, batch 2 x query 1, that the warm-up leaves out. */
export default definePlugin({
  ...llama4Hpu,
  bind(bind) {
    llama4Hpu.bind!(bind);
    bind.decorate(BucketPolicy, ({ buckets }) => ({ buckets, warmUp: buckets.filter(({ batch }) => batch !== 2) }));
    bind.decorate(ModelRunner, (runner) => {
      runners.push(runner as HpuModelRunner);
      return runner;
    });
  },
});
