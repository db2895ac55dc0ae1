import { positive } from './config-keys.ts';
import { smallOf } from './config-schema.ts';
import { decoderWeights, textPart } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { gemmaKeys, gemmaParts, ggufGemma } from './gemma2.ts';
import { llamaConfig } from './llama-config.ts';
import { llamaGguf } from './llama-gguf.ts';

const small = (architecture: string) => smallOf(architecture, { sliding_window: 10, sliding_window_pattern: 3, query_pre_attn_scalar: 24 });

/** Gemma 3, text alone. All layers but every `sliding_window_pattern`-th have a window and the local rope base; queries and keys are normed. */
export const gemma3 = defineFamily({
  name: 'gemma3',
  config: llamaConfig(
    {
      ...gemmaKeys,
      // Left out of multimodal configs.
      vocab_size: positive.default(262_208),
      num_attention_heads: positive.default(8),
      num_key_value_heads: positive.default(4),
      max_position_embeddings: positive.default(131_072),
      attn_logit_softcapping: gemmaKeys.attn_logit_softcapping.unwrap().default(null),
      final_logit_softcapping: gemmaKeys.final_logit_softcapping.unwrap().default(null),
      sliding_window_pattern: positive.default(6),
    },
    ({ slidingWindowPattern, ...config }) => ({
      ...gemmaParts(config),
      attentionSoftcap: null, // the published implementation ignores the key
      qkNorm: 'head',
      windowed: (layer) => (layer + 1) % slidingWindowPattern !== 0,
    }),
    { ropeTheta: 1_000_000, byLayerType: true },
  ),
  weights: (config) => decoderWeights(config, {}, textPart),
  gguf: llamaGguf('Gemma3ForCausalLM', ['gemma3'], {
    windowPattern: 6,
    config: (metadata, { rope_parameters: full_attention }) => ({
      ...ggufGemma(metadata, 62),
      sliding_window: metadata.number('attention.sliding_window'),
      rope_parameters: { full_attention, sliding_attention: { rope_theta: metadata.number('rope.freq_base_swa', 10_000) } },
    }),
  }),
  small: (layers) => ({ ...small('Gemma3ForCausalLM')(layers), ...small('Gemma3ForConditionalGeneration')(layers) }),
});
