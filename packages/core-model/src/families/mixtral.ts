import { perExpert, stack } from '../weights/rules.ts';
import { positive } from './config-keys.ts';
import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { llamaConfig } from './llama-config.ts';
import { ggufExperts, llamaGguf } from './llama-gguf.ts';

/** Mixtral: a Mistral with experts in every layer. */
export const mixtral = defineFamily({
  name: 'mixtral',
  config: llamaConfig(
    { num_local_experts: positive.default(8), num_experts_per_tok: positive.default(2) },
    ({ numLocalExperts: numExperts, numExpertsPerTok: topK, intermediateSize }) => ({
      windowsAreFixed: true,
      moe: { numExperts, topK, intermediateSize, routing: 'softmaxOfChosen' },
    }),
    { ropeTheta: 1_000_000, rmsNormEps: 1e-5 },
  ),
  weights: (config) =>
    decoderWeights(config, {
      '*.mlp.gate.*': '*.block_sparse_moe.gate.*',
      '*.mlp.experts.w13_weight': perExpert(stack(['*.block_sparse_moe.experts.#.w1.weight', '*.block_sparse_moe.experts.#.w3.weight'])),
      '*.mlp.experts.w2_weight': perExpert('*.block_sparse_moe.experts.#.w2.weight'),
    }),
  // The family `llama` passes a GGUF with experts on to this.
  gguf: llamaGguf('MixtralForCausalLM', [], { config: ggufExperts, inPairs: true }),
  small: smallOf('MixtralForCausalLM', { num_local_experts: 4 }),
});
