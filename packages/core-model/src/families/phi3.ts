import { positive } from './config-keys.ts';
import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { llamaConfig } from './llama-config.ts';
import { llamaGguf } from './llama-gguf.ts';

/** Phi-3, 3.5 and 4: a Llama whose checkpoints hold q, k, v and gate, up in one tensor each; part of a head may turn, with LongRoPE beyond 4096 tokens. */
export const phi3 = defineFamily({
  name: 'phi3',
  config: llamaConfig({ original_max_position_embeddings: positive.default(4096) }, () => ({ windowsAreFixed: true }), {
    rmsNormEps: 1e-5,
    partial: true,
  }),
  weights: (config) => decoderWeights(config, { '*.qkv_proj.*': '*.qkv_proj.*', '*.gate_up_proj.*': '*.gate_up_proj.*' }),
  gguf: llamaGguf('Phi3ForCausalLM', ['phi3'], {
    config: (metadata) => ({
      original_max_position_embeddings: metadata.number('rope.scaling.original_context_length', metadata.number('context_length')),
    }),
    rules: {
      'model.layers.*.self_attn.qkv_proj.*': 'blk.*.attn_qkv.*',
      'model.layers.*.mlp.gate_up_proj.*': 'blk.*.ffn_up.*',
    },
  }),
  small: smallOf('Phi3ForCausalLM', { partial_rotary_factor: 0.75 }),
});
