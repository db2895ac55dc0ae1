import { faithfulPolicy } from '@graft/core-model';
import { Backends } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import { cpuPlatform } from './platform.ts';

// Not inside the method below, where TypeScript 6.0.3 does not rewrite the path's `.ts` in the built file.
const backend = () => import('./ort-backend.ts').then((m) => m.OrtBackend);
const version = () => import('@graft/onnxruntime').then((m) => m.libraryVersion());

/** The plugin of the platform "cpu", with ONNX Runtime as a backend. It is loaded when the first model is compiled. */
export default definePlugin({
  name: 'cpu',
  platforms: [cpuPlatform],
  bind(bind) {
    bind.many(Backends).toConstantValue({ name: 'onnxruntime', version, weightPolicy: faithfulPolicy, load: backend });
  },
});
