import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { llamaConfig } from './llama-config.ts';
import { llamaGguf } from './llama-gguf.ts';
import { qwenKeys } from './qwen2.ts';

/** Qwen3: a Llama that norms each head of queries and keys before it rotates them. */
export const qwen3 = defineFamily({
  name: 'qwen3',
  config: llamaConfig(qwenKeys, ({ maxWindowLayers }) => ({ qkNorm: 'head', windowed: (layer) => layer >= maxWindowLayers })),
  weights: (config) => decoderWeights(config),
  gguf: llamaGguf('Qwen3ForCausalLM', ['qwen3']),
  small: smallOf('Qwen3ForCausalLM'),
});
