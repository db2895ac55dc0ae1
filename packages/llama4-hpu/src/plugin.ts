import { definePlugin } from '@graft/registry';
import { HpuPlatform } from './platform.ts';

// At the top of the module: further in, TypeScript 6.0.3 may leave the path's `.ts` as it is in the built file.
const llama4 = () => import('./models/llama4.ts');

// Zeros in the place of no residual: where the first one comes from, and who takes it.
const residual = ['Llama4Model.initialResidual(hiddenStates)', 'Llama4DecoderLayer.forward(positions, hiddenStates, residual)'];

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
      reliesOn: { version: '^0.1.0', methods: ['createModel(context)', ...residual] },
    },
    {
      architecture: 'Llama4ForConditionalGeneration',
      platform: 'hpu',
      model: () => llama4().then((m) => m.HpuLlama4ForConditionalGeneration),
      reliesOn: {
        version: '^0.1.0',
        methods: ['createLanguageModel(context)', 'Llama4ForCausalLM.createModel(context)', ...residual],
      },
    },
  ],
});
