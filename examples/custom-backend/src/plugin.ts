import { float32Policy } from '@graft/core-model';
import { Backend, WeightPolicy } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import { wasmPlatform } from './platform.ts';

// Imported when a model is resolved and compiled. At the top of the module: further in, TypeScript 6.0.3 leaves a path's `.ts` as it is when it builds.
const backend = () => import('./wasm-backend.ts').then((m) => m.WasmBackend);
const loadOverride = async () => (await import('./override.ts')).WasmLlama4ForCausalLM;

export default definePlugin({
  name: 'custom-backend',
  after: ['core-model'],
  platforms: [wasmPlatform],
  overrides: [
    {
      of: 'Llama4ForCausalLM',
      platform: 'wasm',
      model: loadOverride,
      // What `graft contract` prints, less what is not used: the method that `normBeforeRotation` is a changed copy of, and what that reads.
      reliesOn: {
        version: '^0.1.0',
        attributes: ['qSize', 'kvSize', 'qkv_proj', 'o_proj', 'rotary_emb', 'qk_norm', 'attn'].map((name) => `Llama4Attention.${name}`),
        copied: { 'Llama4Attention.forward': '2394f42d08272ed8' },
      },
    },
  ],
  bind(bind) {
    bind(Backend).to(backend);
    bind(WeightPolicy).toConstantValue(float32Policy);
  },
});
