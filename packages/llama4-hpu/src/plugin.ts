import { definePlugin } from '@graft/registry';
import { HpuPlatform } from './platform.ts';

// At the top of the module: further in, TypeScript 6.0.3 may leave the path's `.ts` as it is in the built file.
const llama4 = () => import('./models/llama4.ts');

/** Llama 4 on Intel Gaudi: the platform, and an override for each architecture. What an override removes stands on its class. */
export default definePlugin({
  name: 'llama4-hpu',
  graft: '^0.1.0',
  after: ['core-model'],
  platforms: [new HpuPlatform()],
  overrides: [
    {
      architecture: 'Llama4ForCausalLM',
      platform: 'hpu',
      model: () => llama4().then((m) => m.HpuLlama4ForCausalLM),
      reliesOn: { methods: ['createModel'] },
    },
    {
      architecture: 'Llama4ForConditionalGeneration',
      platform: 'hpu',
      model: () => llama4().then((m) => m.HpuLlama4ForConditionalGeneration),
      reliesOn: { methods: ['createLanguageModel'] },
    },
  ],
});
