import { z } from 'zod';
import { positive } from './config-keys.ts';
import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { type LlamaParts, llamaConfig } from './llama-config.ts';

const cap = z.number().positive().nullable();

/** Keys of Gemma 2 and 3, with Gemma 2's values where they are left out. */
export const gemmaKeys = {
  head_dim: positive.default(256),
  hidden_act: z.string().nullish(), // `hidden_activation` counts
  hidden_activation: z.literal('gelu_pytorch_tanh').default('gelu_pytorch_tanh'),
  query_pre_attn_scalar: z.number().positive().default(256),
  sliding_window: positive.nullable().default(4096),
  attn_logit_softcapping: cap.default(50),
  final_logit_softcapping: cap.default(30),
  use_bidirectional_attention: z.literal(false, 'Attention to later tokens is not computed').nullish(),
  tie_word_embeddings: z.boolean().default(true),
};

/** What Gemma 2 and 3 have in common. */
export const gemmaParts = (config: {
  readonly hiddenSize: number;
  readonly queryPreAttnScalar: number;
  readonly attnLogitSoftcapping: number | null;
  readonly finalLogitSoftcapping: number | null;
}): Partial<LlamaParts> => ({
  activation: 'geluTanh',
  norms: 'both',
  gemmaNorm: true,
  attentionScale: config.queryPreAttnScalar ** -0.5,
  attentionSoftcap: config.attnLogitSoftcapping,
  logitsSoftcap: config.finalLogitSoftcapping,
  embeddingScale: Math.sqrt(config.hiddenSize),
});

/** Gemma 2: four norms a layer, capped scores and logits, a window in every other layer. */
export const gemma2 = defineFamily({
  name: 'gemma2',
  config: llamaConfig(gemmaKeys, (config) => ({ ...gemmaParts(config), windowed: (layer) => layer % 2 === 0 })),
  weights: (config) => decoderWeights(config),
  small: smallOf('Gemma2ForCausalLM', { sliding_window: 12, query_pre_attn_scalar: 8 }),
});
