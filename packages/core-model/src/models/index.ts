import { definePlugin } from '@graft/registry';

/** The upstream models; nothing of them is imported before one is resolved. */
export const coreModels = definePlugin({
  name: 'core-model',
  manifest: () => import('../manifest.ts').then((m) => m.manifest),
  models: [
    { architecture: 'Llama4ForCausalLM', model: () => import('./llama4.ts').then((m) => m.Llama4ForCausalLM) },
    {
      architecture: 'Llama4ForConditionalGeneration',
      model: () => import('./mllama4.ts').then((m) => m.Llama4ForConditionalGeneration),
      capabilities: { images: true },
    },
  ],
});
