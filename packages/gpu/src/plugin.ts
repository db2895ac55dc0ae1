import { Backends } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import { GpuPlatform } from './platforms.ts';
import { ggmlPolicy } from './policy.ts';

// Not inside the method below, where TypeScript 6.0.3 does not rewrite the path's `.ts` in the built file.
const backend = () => import('./ggml-backend.ts').then((m) => m.GgmlBackend);
const version = () => import('@graft/ggml').then((m) => m.libraryVersion());

/**
 * ggml: a second backend of the platform "cpu", and the platforms of GPUs. A library of a GPU is loaded when its npm package is installed and the platform is
 * chosen.
 */
export default definePlugin({
  name: 'gpu',
  after: ['core-model'],
  platforms: [new GpuPlatform('cuda'), new GpuPlatform('vulkan'), new GpuPlatform('metal')],
  bind(bind) {
    bind.many(Backends, { platform: 'cpu' }).toConstantValue({ name: 'ggml', version, weightPolicy: ggmlPolicy, load: backend });
  },
});
