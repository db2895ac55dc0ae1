import { decoderConfig, decoderWeights, defineFamily, ggufDecoderConfig, ggufWeights, positive, smallDecoder } from '@graft/core-model';
import { z } from 'zod';

/** Keys of a Qwen3's config.json beyond those of every decoder. */
const Qwen3Config = decoderConfig(
  {
    intermediate_size: positive,
    hidden_act: z.literal('silu').default('silu'),
    attention_bias: z.boolean().default(false),
    use_sliding_window: z.literal(false, 'A sliding window is not computed').default(false),
  },
  { ropeTheta: 1_000_000 },
);

export type Qwen3Config = z.output<typeof Qwen3Config>;

/** Its tensors have the names of most decoders: the shared rules stack q, k, v and gate, up, and `q_norm` and `k_norm` keep their names. */
export const qwen3 = defineFamily({
  name: 'qwen3',
  config: Qwen3Config,
  weights: (config) => decoderWeights(config),
  gguf: {
    architectures: ['myqwen3'],
    config: (file) => ({ architectures: ['MyQwen3ForCausalLM'], ...ggufDecoderConfig(file) }),
    weights: (config) =>
      ggufWeights(config, {
        rules: {
          'model.layers.*.self_attn.q_norm.*': 'blk.*.attn_q_norm.*',
          'model.layers.*.self_attn.k_norm.*': 'blk.*.attn_k_norm.*',
        },
      }),
  },
  small: (layers = 4) => ({ MyQwen3ForCausalLM: smallDecoder(layers, { architectures: ['MyQwen3ForCausalLM'] }) }),
});
