import { z } from 'zod';
import { perExpert, stack } from '../weights/rules.ts';
import { positive } from './config-keys.ts';
import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { llamaConfig, windowSwitch } from './llama-config.ts';
import { ggufExperts, llamaGguf } from './llama-gguf.ts';

/** Qwen3-MoE: a Qwen3 with experts in every layer, in one of `decoder_sparse_step`, or in all but `mlp_only_layers`. */
export const qwen3Moe = defineFamily({
  name: 'qwen3_moe',
  config: llamaConfig(
    {
      ...windowSwitch,
      sliding_window: positive.nullable().default(4096),
      moe_intermediate_size: positive.default(768),
      num_experts: positive.nullish(),
      /** The name of `num_experts` that transformers 5 writes. */
      num_local_experts: positive.nullish(),
      num_experts_per_tok: positive.default(8),
      norm_topk_prob: z.boolean().default(false),
      decoder_sparse_step: positive.default(1),
      mlp_only_layers: z.array(z.int().nonnegative()).nullish(),
    },
    ({ numExperts, numLocalExperts, numExpertsPerTok, moeIntermediateSize, normTopkProb, mlpOnlyLayers, decoderSparseStep }) => ({
      qkNorm: 'head',
      windowsAreFixed: true,
      moe: {
        numExperts: numExperts ?? numLocalExperts ?? 128,
        topK: numExpertsPerTok,
        intermediateSize: moeIntermediateSize,
        routing: normTopkProb ? 'softmaxOfChosen' : 'softmax',
      },
      sparse: (layer) => !mlpOnlyLayers?.includes(layer) && (layer + 1) % decoderSparseStep === 0,
    }),
  ),
  weights: (config) =>
    decoderWeights(config, {
      '*.experts.w13_weight': perExpert(stack(['*.experts.#.gate_proj.weight', '*.experts.#.up_proj.weight'])),
      '*.experts.w2_weight': perExpert('*.experts.#.down_proj.weight'),
    }),
  gguf: llamaGguf('Qwen3MoeForCausalLM', ['qwen3moe'], {
    config: (metadata) => ({
      ...ggufExperts(metadata),
      moe_intermediate_size: metadata.number('expert_feed_forward_length'),
      norm_topk_prob: true, // as llama.cpp takes it
    }),
  }),
  small: smallOf('Qwen3MoeForCausalLM', {
    num_experts: 4,
    num_experts_per_tok: 2,
    moe_intermediate_size: 32,
    norm_topk_prob: true,
    mlp_only_layers: [1],
  }),
});
