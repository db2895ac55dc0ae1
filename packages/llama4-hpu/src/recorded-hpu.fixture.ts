import { ModelRunnerOf } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import { hpuBuckets } from './buckets.ts';
import { parseHpuPlatformOptions } from './platform-options.ts';
import llama4Hpu from './plugin.ts';
import { HpuModelRunner } from './runner.ts';

/** The runners that were made, the latest last. */
export const runners: HpuModelRunner[] = [];

/** The plugin with runners that a test can look at, and one bucket, batch 2 x query 1, that the warm-up leaves out. */
export default definePlugin({
  ...llama4Hpu,
  bindEngine(bind) {
    bind.bind(ModelRunnerOf('hpu')).toDynamicValue(() => async (parts) => {
      const { maxSequences, prefillTokens } = parts.config;
      const buckets = hpuBuckets(parseHpuPlatformOptions({}), {
        maxSequences,
        prefillTokens,
        maxModelLength: parts.context.maxModelLength,
      });
      const warmUp = buckets.filter(({ batch }) => batch !== 2);
      const runner = await HpuModelRunner.open(parts, { policy: { buckets, warmUp } });
      runners.push(runner);
      return runner;
    });
  },
});
