import { Backend, WeightPolicy } from '@graft/engine';
import { GgmlBackend, ggmlPolicy } from '@graft/gpu/api';
import { definePlugin } from '@graft/registry';

/** ggml on the CPU as a platform. */
export default definePlugin({
  name: 'ggml',
  platforms: [{ name: 'ggml', modes: ['full'], detect: () => 'device' }],
  bind(bind) {
    bind(Backend).toConstantValue(new GgmlBackend({ cacheType: 'F32', threads: 1 }));
    bind(WeightPolicy).toConstantValue(ggmlPolicy);
  },
});
