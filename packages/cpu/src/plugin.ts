import { faithfulPolicy } from '@graft/core-model';
import { Backend, WeightPolicy } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import { cpuPlatform } from './platform.ts';

// Not inside the method below, where TypeScript 6.0.3 does not rewrite the path's `.ts` in the built file.
const backend = () => import('./ort-backend.ts').then((m) => m.OrtBackend);

/** The plugin of the platform "cpu". ONNX Runtime is loaded when the first model is compiled. */
export default definePlugin({
  name: 'cpu',
  platforms: [cpuPlatform],
  bind(bind) {
    bind(Backend).to(backend);
    bind(WeightPolicy).toConstantValue(faithfulPolicy);
  },
});
