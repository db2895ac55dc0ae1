import { definePlugin } from '@graft/registry';
import { HpuPlatform } from './platform.ts';

// At the top of the module: further in, TypeScript 6.0.3 may leave the path's `.ts` as it is in the built file.
const llama4 = () => import('./models/llama4.ts');

// Zeros in the place of no residual: where the first one comes from, and who takes it.
const residual = ['Llama4Model.initialResidual(hiddenStates)', 'Llama4DecoderLayer.forward(positions, hiddenStates, residual)'];

// What the hooks patch, and the method whose branches `branchFreeAttentionForward` takes out of a copy.
const patched = {
  version: '^0.1.0',
  attributes: ['qSize', 'kvSize', 'nope', 'attnTemperatureTuning', 'qkv_proj', 'o_proj', 'rotary_emb', 'qk_norm', 'attn'].map(
    (name) => `Llama4Attention.${name}`,
  ),
  copied: { 'Llama4Attention.forward': '6e71cb0fbfca7ac1' },
};
const patchedMethods = [
  'Llama4Attention.forward(positions, hiddenStates)',
  'Llama4Attention.getAttnScale(positions)',
  'ChunkedLocalAttention.getKvCacheSpec()',
];

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
      reliesOn: { ...patched, methods: ['createModel(context)', ...residual, ...patchedMethods] },
    },
    {
      architecture: 'Llama4ForConditionalGeneration',
      platform: 'hpu',
      model: () => llama4().then((m) => m.HpuLlama4ForConditionalGeneration),
      reliesOn: {
        ...patched,
        methods: ['createLanguageModel(context)', 'Llama4ForCausalLM.createModel(context)', ...residual, ...patchedMethods],
      },
    },
  ],
});
