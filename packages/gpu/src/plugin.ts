import {
  Backend,
  Backends,
  BucketedModelRunner,
  BucketPolicy,
  Lowerings,
  ModelRunner,
  RunnerParts,
  StaticBackend,
  WeightPolicy,
} from '@graft/engine';
import { definePlugin } from '@graft/registry';
import { gpuBuckets } from './buckets.ts';
import { type GpuName, GpuPlatform } from './platforms.ts';
import { ggmlPolicy } from './policy.ts';

const names: readonly GpuName[] = ['cuda', 'vulkan', 'metal'];

// Not inside the method below, where TypeScript 6.0.3 does not rewrite the path's `.ts` in the built file.
const backend = () => import('./ggml-backend.ts').then((m) => m.GgmlBackend);
const staticBackend = () => import('./static-backend.ts').then((m) => m.GgmlStaticBackend);
const version = () => import('@graft/ggml').then((m) => m.libraryVersion());

/**
 * ggml: a second backend of the platform "cpu", and the platforms of GPUs. A library of a GPU is loaded when its npm package is installed and the platform is
 * chosen.
 */
export default definePlugin({
  name: 'gpu',
  after: ['core-model'],
  platforms: names.map((name) => new GpuPlatform(name)),
  bind(bind) {
    bind.many(Backends, { platform: 'cpu' }).toConstantValue({ name: 'ggml', version, weightPolicy: ggmlPolicy, load: backend });
    for (const gpu of names) {
      const on = { platform: gpu };
      bind(StaticBackend, on).toDynamicValue(async (services) => {
        const GgmlStaticBackend = await staticBackend();
        return new GgmlStaticBackend({ gpu, lowerings: await services.get(Lowerings) });
      });
      // For `verify --ops`. Models run on the backend of static shapes.
      bind(Backend, on).toDynamicValue(async (services) => {
        const GgmlBackend = await backend();
        return new GgmlBackend({ gpu, lowerings: await services.get(Lowerings) });
      });
      bind(WeightPolicy, on).toConstantValue(ggmlPolicy);
      bind(BucketPolicy, on).toDynamicValue(async (services) => gpuBuckets(await services.get(RunnerParts)));
      bind(ModelRunner, on).to(BucketedModelRunner);
    }
  },
});
