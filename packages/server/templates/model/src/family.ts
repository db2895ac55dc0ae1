import { decoderConfig, decoderWeights, defineFamily, positive, smallDecoder } from '@graft/core-model';
import { z } from 'zod';

/** Keys of config.json beyond those of every decoder. */
const MyModelConfig = decoderConfig(
  {
    intermediate_size: positive,
    hidden_act: z.literal('silu').default('silu'),
    attention_bias: z.boolean().default(false),
  },
  { ropeTheta: 1_000_000 },
);

export type MyModelConfig = z.output<typeof MyModelConfig>;

/** The shared rules stack q, k, v and gate, up; other tensors keep the names that they have in the checkpoint. */
export const family = defineFamily({
  name: 'my-model',
  config: MyModelConfig,
  weights: (config) => decoderWeights(config),
  gguf: null,
  small: (layers = 4) => ({ MyModelForCausalLM: smallDecoder(layers, { architectures: ['MyModelForCausalLM'] }) }),
});
