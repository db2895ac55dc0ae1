import { z } from 'zod';
import { positive } from './config-keys.ts';
import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import type { RawConfig } from './family.ts';
import type { GgufMetadata } from './gguf-config.ts';
import { type LlamaParts, llamaConfig } from './llama-config.ts';
import { llamaGguf } from './llama-gguf.ts';

const cap = z.number().positive().nullable();

/** Keys of Gemma 2 and 3, with Gemma 2's values where they are left out. */
export const gemmaKeys = {
  head_dim: positive.default(256),
  hidden_act: z.string().nullish(), // `hidden_activation` counts
  hidden_activation: z.literal('gelu_pytorch_tanh').nullish(),
  query_pre_attn_scalar: z.number().positive().default(256),
  sliding_window: positive.nullable().default(4096),
  attn_logit_softcapping: cap.default(50),
  final_logit_softcapping: cap.default(30),
  use_bidirectional_attention: z.literal(false, 'Attention to later tokens is not computed').nullish(),
  tie_word_embeddings: z.boolean().default(true),
  /** False for a GGUF: its norms already contain the one. */
  norm_adds_one: z.boolean().default(true),
};

/** What Gemma 2 and 3 have in common. */
export const gemmaParts = (config: {
  readonly hiddenSize: number;
  readonly queryPreAttnScalar: number;
  readonly attnLogitSoftcapping: number | null;
  readonly finalLogitSoftcapping: number | null;
  readonly normAddsOne: boolean;
}): Partial<LlamaParts> => ({
  activation: 'geluTanh',
  norms: 'both',
  gemmaNorm: config.normAddsOne,
  attentionScale: config.queryPreAttnScalar ** -0.5,
  attentionSoftcap: config.attnLogitSoftcapping,
  logitsSoftcap: config.finalLogitSoftcapping,
  embeddingScale: Math.sqrt(config.hiddenSize),
});

/**
 * Keys of a Gemma's GGUF. The file lacks the scale of scores. As in llama.cpp it follows from the width of a head; in the largest model, from hidden / heads.
 * @param largest the number of layers of that model.
 */
export function ggufGemma(metadata: GgufMetadata, largest: number): RawConfig {
  const [hidden, heads] = [metadata.number('embedding_length'), metadata.number('attention.head_count')];
  const given = {
    sliding_window: 'attention.sliding_window',
    attn_logit_softcapping: 'attn_logit_softcapping',
    final_logit_softcapping: 'final_logit_softcapping',
  };
  const keys = Object.entries(given).map(([key, name]) => [key, metadata.get(name)] as const);
  return {
    ...Object.fromEntries(keys.filter(([, value]) => typeof value === 'number')),
    query_pre_attn_scalar:
      metadata.number('block_count') === largest ? hidden / heads : metadata.number('attention.key_length', hidden / heads),
    norm_adds_one: false,
  };
}

/** Gemma 2: four norms a layer, capped scores and logits, a window in every other layer. */
export const gemma2 = defineFamily({
  name: 'gemma2',
  config: llamaConfig(gemmaKeys, (config) => ({ ...gemmaParts(config), windowed: (layer) => layer % 2 === 0 })),
  weights: (config) => decoderWeights(config),
  gguf: llamaGguf('Gemma2ForCausalLM', ['gemma2'], { windowPattern: 2, config: (metadata) => ggufGemma(metadata, 46) }),
  small: smallOf('Gemma2ForCausalLM', { sliding_window: 12, query_pre_attn_scalar: 8 }),
});
