import { z } from 'zod';
import { ConfigInvalidError } from '../errors.ts';
import { pairsFromHalves, reordered, stack } from '../weights/rules.ts';
import { smallDecoder } from './config-schema.ts';
import { decoderWeights, ggufWeights, qkvRows, textPart } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import type { RawConfig, ReadAs } from './family.ts';
import { llamaConfig } from './llama-config.ts';
import { llamaGguf } from './llama-gguf.ts';
import type { Llama4Config } from './llama4-config.ts';
import { mixtral } from './mixtral.ts';

/** The config.json of a Llama, or of a Mistral, in which `sliding_window` is that of every layer. */
const LlamaSchema = llamaConfig(
  /** Of q, k and v alone. Default: `attention_bias`. */
  { qkv_bias: z.boolean().nullish(), architectures: z.array(z.string()).nullish() },
  ({ qkvBias, attentionBias, architectures }) => ({
    qkvBias: qkvBias ?? attentionBias,
    ...(architectures?.includes('MistralForCausalLM') && { usualWindow: 4096 }),
    ...(architectures?.includes('LlamaForCausalLM') && { windowsAreFixed: true, windowed: () => false }),
  }),
  { scalesQueries: true },
);

/** A Llama as a Llama 4 with one kind of layer. */
const asLlama4: ReadAs = {
  why: 'a Llama 4 computes the same where every layer rotates, attends in one chunk, is dense and norms no queries and keys',
  config(raw, where): RawConfig {
    const config = llama.parseConfig(raw, { ...(where !== undefined && { where }) });
    const at = (key: string): string => `${where ?? 'config.json'}, key "${key}"`;
    if (config.layers.some(({ window }) => window !== null))
      throw new ConfigInvalidError('A Llama 4 has no window that slides.', at('sliding_window'));
    if (config.queryScaling !== null || config.rope.partialRotaryFactor !== undefined)
      throw new ConfigInvalidError('A Llama 4 rotates all of a head, and scales no queries of layers that rotate.', at('rope_parameters'));
    if (config.mlpBias) throw new ConfigInvalidError('A Llama 4 has no biases in its MLP.', at('mlp_bias'));
    if (config.qkvBias !== config.attentionBias)
      throw new ConfigInvalidError('A Llama 4 has biases on q, k, v and the output, or on none of them.', at('qkv_bias'));
    return {
      ...raw,
      ...(config.rope.type === 'default' && { rope_theta: config.rope.theta }),
      architectures: ['Llama4ForCausalLM'],
      intermediate_size_mlp: config.intermediateSize,
      rms_norm_eps: config.rmsNormEps,
      attention_chunk_size: config.maxPositionEmbeddings,
      layer_types: null,
      moe_layers: [],
      no_rope_layers: Array.from({ length: config.numHiddenLayers }, () => 1),
      use_qk_norm: false,
      attn_temperature_tuning: false,
    };
  },
  weights(config: Llama4Config, kind) {
    if (kind === 'gguf') return ggufWeights(config, { mlp: 'feed_forward' }); // its rows already stand in pairs
    const pairs = pairsFromHalves(config.headDim);
    return decoderWeights(config, {
      '*.qkv_proj.*': stack([reordered('*.q_proj.*', pairs), reordered('*.k_proj.*', pairs), '*.v_proj.*'], qkvRows(config)),
      '*.feed_forward.gate_up_proj.*': stack(['*.mlp.gate_proj.*', '*.mlp.up_proj.*']),
      '*.feed_forward.down_proj.*': '*.mlp.down_proj.*',
    });
  },
};

const ministralRope = {
  rope_type: 'yarn',
  rope_theta: 10_000,
  factor: 4,
  original_max_position_embeddings: 16,
  llama_4_scaling_beta: 0.1,
};

const ggufLlama = llamaGguf('LlamaForCausalLM', ['llama', 'mistral3'], { inPairs: true });

/** Llama 2 and 3, Mistral, Ministral 3, and others of their form; a `llama` or `mistral3` GGUF. */
export const llama = defineFamily({
  name: 'llama',
  config: LlamaSchema,
  weights: (config) => decoderWeights(config, {}, textPart),
  gguf: {
    ...ggufLlama,
    config(file) {
      const experts = file.metadata.get('llama.expert_count');
      if (typeof experts === 'number' && experts > 0) return mixtral.gguf!.config(file);
      return {
        ...ggufLlama.config(file),
        ...(file.metadata.get('general.architecture') === 'mistral3' && { architectures: ['Ministral3ForCausalLM'] }),
      };
    },
  },
  readAs: { Llama4ForCausalLM: asLlama4 },
  small: (layers = 4) => ({
    LlamaForCausalLM: smallDecoder(layers, { architectures: ['LlamaForCausalLM'] }),
    Ministral3ForCausalLM: smallDecoder(layers, { architectures: ['Ministral3ForCausalLM'], rope_parameters: ministralRope }),
    Mistral3ForConditionalGeneration: smallDecoder(layers, { architectures: ['Mistral3ForConditionalGeneration'] }),
    MistralForCausalLM: smallDecoder(layers, { architectures: ['MistralForCausalLM'] }),
  }),
});
