import { faithfulPolicy } from '@graft/core-model';
import { BackendOf, WeightPolicyOf } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import { cpuPlatform } from './platform.ts';

/** The platform every machine has, as a plugin like any other. ONNX Runtime is loaded when the first model is compiled. */
export default definePlugin({
  name: 'cpu',
  platforms: [cpuPlatform],
  bindEngine(bind) {
    bind.bind(BackendOf('cpu')).toDynamicValue(async () => new (await import('./ort-backend.ts')).OrtBackend());
    bind.bind(WeightPolicyOf('cpu')).toConstantValue(faithfulPolicy);
  },
});
