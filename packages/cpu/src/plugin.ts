import { faithfulPolicy } from '@graft/core-model';
import { Backend, WeightPolicy } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import { cpuPlatform } from './platform.ts';

// At the top of the module: inside the method below, TypeScript 6.0.3 leaves the path's `.ts` as it is in the built file.
const backend = () => import('./ort-backend.ts').then((m) => m.OrtBackend);

/** The platform every machine has, as a plugin like any other. ONNX Runtime is loaded when the first model is compiled. */
export default definePlugin({
  name: 'cpu',
  platforms: [cpuPlatform],
  bind(bind) {
    bind(Backend).to(backend);
    bind(WeightPolicy).toConstantValue(faithfulPolicy);
  },
});
