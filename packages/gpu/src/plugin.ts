import { definePlugin } from '@graft/registry';
import { GpuPlatform } from './platforms.ts';

/** The platforms of GPUs. A library of ggml is loaded when its npm package is installed and the platform is chosen. */
export default definePlugin({
  name: 'gpu',
  after: ['core-model'],
  platforms: [new GpuPlatform('cuda'), new GpuPlatform('vulkan'), new GpuPlatform('metal')],
});
