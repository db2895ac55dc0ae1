import { definePlugin } from '@graft/registry';

const family = () => import('./family.ts').then((m) => m.qwen3);
const models = () => import('./model.ts');

/** Qwen3: what Graft must know of it, its classes, and the parts of them that others may override. */
export default definePlugin({
  name: 'qwen3',
  after: ['core-model'],
  models: [{ architecture: 'Qwen3ForCausalLM', model: () => models().then((m) => m.Qwen3ForCausalLM), family }],
  layers: {
    Qwen3Attention: () => models().then((m) => m.Qwen3Attention),
    Qwen3DecoderLayer: () => models().then((m) => m.Qwen3DecoderLayer),
    Qwen3Model: () => models().then((m) => m.Qwen3Model),
  },
});
