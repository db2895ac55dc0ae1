// Its backend needs a service that no plugin binds.
import { BackendOf } from '@graft/engine';
import { InterpreterBackend } from '@graft/graph';
import { definePlugin, token } from '@graft/registry';

const KernelCache = token<Map<string, Uint8Array>>('KernelCache', 'engine');

export default definePlugin({
  name: 'missing-token',
  platforms: [{ name: 'npu', modes: ['full'], detect: () => 'device' }],
  bindEngine(bind) {
    bind
      .bind(BackendOf('npu'))
      .toDynamicValue((services) => Object.assign(new InterpreterBackend(), { kernels: services.get(KernelCache) }));
  },
});
