// Its backend needs a service that no plugin binds.
import { Backend } from '@graft/engine';
import { InterpreterBackend } from '@graft/graph';
import { definePlugin, token } from '@graft/registry';

const KernelCache = token<Map<string, Uint8Array>>('KernelCache');

export default definePlugin({
  name: 'missing-token',
  platforms: [{ name: 'npu', modes: ['full'], detect: () => 'device' }],
  bind(bind) {
    bind(Backend).toDynamicValue(async (services) => Object.assign(new InterpreterBackend(), { kernels: await services.get(KernelCache) }));
  },
});
