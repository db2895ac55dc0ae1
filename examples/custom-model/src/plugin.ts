import { definePlugin } from '@graft/registry';

const family = () => import('./family.ts').then((m) => m.qwen3);
const models = () => import('./model.ts');

/** Qwen3 under a name of our own, as core-model brings one too: its family, its classes, and the parts of them that others may override. */
export default definePlugin({
  name: 'qwen3',
  after: ['core-model'],
  models: [{ architecture: 'MyQwen3ForCausalLM', model: () => models().then((m) => m.Qwen3ForCausalLM), family }],
  layers: {
    Qwen3Attention: () => models().then((m) => m.Qwen3Attention),
    Qwen3DecoderLayer: () => models().then((m) => m.Qwen3DecoderLayer),
    Qwen3Model: () => models().then((m) => m.Qwen3Model),
  },
});
