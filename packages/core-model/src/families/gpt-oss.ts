import { z } from 'zod';
import { either, reordered, type Source, transposed, vectors } from '../weights/rules.ts';
import { positive } from './config-keys.ts';
import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { llamaConfig } from './llama-config.ts';
import { ggufExperts, llamaGguf } from './llama-gguf.ts';

/** gpt-oss: experts with biases in every layer, sinks, a window in every other layer. */
export const gptOss = defineFamily({
  name: 'gpt_oss',
  config: llamaConfig(
    {
      attention_bias: z.boolean().default(true),
      sliding_window: positive.nullable().default(128),
      num_local_experts: positive.default(128),
      num_experts_per_tok: positive.default(4),
      swiglu_alpha: z.number().positive().default(1.702),
      swiglu_limit: z.number().positive().default(7),
    },
    ({ numLocalExperts: numExperts, numExpertsPerTok: topK, intermediateSize, swigluAlpha: alpha, swigluLimit: limit }) => ({
      sinks: true,
      moe: { numExperts, topK, intermediateSize, routing: 'softmaxOfChosen', activation: { kind: 'swigluOai', alpha, limit }, bias: true },
      windowed: (layer) => layer % 2 === 0,
    }),
    {
      ropeTheta: 150_000,
      rmsNormEps: 1e-5,
      rope: { rope_type: 'yarn', factor: 32, beta_fast: 32, beta_slow: 1, truncate: false, original_max_position_embeddings: 4096 },
    },
  ),
  weights: (config) => decoderWeights(config, gptOssRules(config.intermediateSize)),
  gguf: llamaGguf('GptOssForCausalLM', ['gpt-oss'], {
    windowPattern: 2,
    config: (metadata, { rope_parameters: rope }) => ({
      ...ggufExperts(metadata),
      rope_parameters: { ...(rope as object), truncate: false }, // as published; the file does not say it
      intermediate_size: metadata.number('expert_feed_forward_length'),
      sliding_window: metadata.number('attention.sliding_window'),
    }),
  }),
  small: smallOf('GptOssForCausalLM', { intermediate_size: 32, num_local_experts: 4, num_experts_per_tok: 2, sliding_window: 12 }),
});

/** The checkpoint interleaves gate and up. It stores matrices by input rows, and MXFP4's blocks by output rows. */
function gptOssRules(intermediateSize: number): Record<string, Source | string> {
  const byTurns = (row: number): number => (row < intermediateSize ? 2 * row : 2 * (row - intermediateSize) + 1);
  return {
    '*.attn.sinks': '*.sinks',
    '*.mlp.gate.*': '*.mlp.router.*',
    '*.experts.w13_weight': either(transposed('*.experts.gate_up_proj', byTurns), reordered('*.experts.gate_up_proj_blocks', byTurns)),
    '*.experts.w13_bias': vectors('*.experts.gate_up_proj_bias', byTurns),
    '*.experts.w2_weight': either(transposed('*.experts.down_proj'), '*.experts.down_proj_blocks'),
    '*.experts.w2_bias': '*.experts.down_proj_bias',
  };
}
