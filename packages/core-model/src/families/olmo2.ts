import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { llamaConfig } from './llama-config.ts';
import { llamaGguf } from './llama-gguf.ts';

/** OLMo 2: norms after attention and after the feed-forward part, and of all heads of queries and keys together. */
export const olmo2 = defineFamily({
  name: 'olmo2',
  config: llamaConfig({}, () => ({ norms: 'after', qkNorm: 'all', windowsAreFixed: true, windowed: () => false }), { rmsNormEps: 1e-5 }),
  weights: (config) => decoderWeights(config),
  gguf: llamaGguf('Olmo2ForCausalLM', ['olmo2'], {
    config(metadata) {
      const window = metadata.get('attention.sliding_window') ?? 0;
      return window === 0 ? {} : metadata.refuse(`The GGUF is an OLMo 3: three layers of four have a window of ${String(window)} tokens.`);
    },
  }),
  small: smallOf('Olmo2ForCausalLM', { num_key_value_heads: 4, head_dim: null }),
});
