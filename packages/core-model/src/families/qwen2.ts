import { z } from 'zod';
import { positive } from './config-keys.ts';
import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { llamaConfig, windowSwitch } from './llama-config.ts';
import { llamaGguf } from './llama-gguf.ts';

/** Keys of Qwen2 and Qwen3: from layer `max_window_layers` on each looks back `sliding_window` tokens, where `use_sliding_window` is set. */
export const qwenKeys = {
  ...windowSwitch,
  sliding_window: positive.nullable().default(4096),
  max_window_layers: positive.or(z.literal(0)).default(28),
};

/** Qwen2 and 2.5: a Llama with biases on q, k and v alone. */
export const qwen2 = defineFamily({
  name: 'qwen2',
  config: llamaConfig(qwenKeys, ({ maxWindowLayers }) => ({
    qkvBias: true,
    attentionBias: false,
    windowed: (layer) => layer >= maxWindowLayers,
  })),
  weights: (config) => decoderWeights(config),
  gguf: llamaGguf('Qwen2ForCausalLM', ['qwen2']),
  small: smallOf('Qwen2ForCausalLM', { tie_word_embeddings: true }),
});
