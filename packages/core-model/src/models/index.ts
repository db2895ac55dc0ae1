import { definePlugin } from '@graft/registry';

const llama4 = () => import('../families/llama4.ts').then((m) => m.llama4);

/** The upstream models; nothing of them is imported before one is resolved. */
export const coreModels = definePlugin({
  name: 'core-model',
  manifest: () => import('../manifest.ts').then((m) => m.manifest),
  models: [
    { architecture: 'Llama4ForCausalLM', model: () => import('./llama4.ts').then((m) => m.Llama4ForCausalLM), family: llama4 },
    {
      architecture: 'Llama4ForConditionalGeneration',
      model: () => import('./mllama4.ts').then((m) => m.Llama4ForConditionalGeneration),
      family: llama4,
      capabilities: { images: true },
    },
  ],
});
