import { either, perExpert, reordered, type Source, stack, WeightRules, type WeightRulesOptions } from '../weights/rules.ts';
import type { DecoderConfig } from './config-schema.ts';
import type { LlamaParts } from './llama-config.ts';

type Sizes = Pick<DecoderConfig, 'numAttentionHeads' | 'numKeyValueHeads' | 'headDim' | 'tieWordEmbeddings'>;
type Rules = Readonly<Record<string, Source | string>>;

/** The rows of q, k and v in their stack. */
export function qkvRows({ numAttentionHeads, numKeyValueHeads, headDim }: Sizes): number[] {
  return [numAttentionHeads * headDim, numKeyValueHeads * headDim, numKeyValueHeads * headDim];
}

/** Options of `decoderWeights` for a multimodal checkpoint of which only the text part is built. */
export const textPart: WeightRulesOptions = { prefix: 'language_model.', unused: ['vision_tower.*', 'multi_modal_projector.*'] };

/**
 * The rules of a decoder's safetensors: Hugging Face's names, with q, k, v and gate, up stacked as vLLM has them.
 * @param rules of the family. They come first and replace a shared rule of the same pattern.
 */
export function decoderWeights(config: Sizes, rules: Rules = {}, options: WeightRulesOptions = {}): WeightRules {
  const shared = {
    '*.qkv_proj.*': stack(['*.q_proj.*', '*.k_proj.*', '*.v_proj.*'], qkvRows(config)),
    '*.gate_up_proj.*': stack(['*.gate_proj.*', '*.up_proj.*']),
  };
  const unused = ['*.rotary_emb.inv_freq', ...(config.tieWordEmbeddings ? ['lm_head.weight'] : []), ...(options.unused ?? [])];
  return new WeightRules({ ...rules, ...shared, ...rules }, { ...options, unused });
}

export interface GgufWeights {
  /** Rules of the family, which come first. */
  rules?: Rules;
  /** The name of a layer's feed-forward part. */
  mlp?: string;
  /** The row of the file for each row of q and k, where their orders differ. */
  rows?: (row: number) => number;
}

/** The names of a layer's norms in the file, by their place in the model. */
const ggufNorms: Readonly<Record<LlamaParts['norms'], Rules>> = {
  before: { 'model.layers.*.post_attention_layernorm.*': either('blk.*.ffn_norm.*', 'blk.*.post_attention_norm.*') },
  after: {
    'model.layers.*.post_attention_layernorm.*': 'blk.*.post_attention_norm.*',
    'model.layers.*.post_feedforward_layernorm.*': 'blk.*.post_ffw_norm.*',
  },
  both: {
    'model.layers.*.post_attention_layernorm.*': 'blk.*.post_attention_norm.*',
    'model.layers.*.pre_feedforward_layernorm.*': 'blk.*.ffn_norm.*',
    'model.layers.*.post_feedforward_layernorm.*': 'blk.*.post_ffw_norm.*',
  },
};

/** The rules of a decoder's GGUF, by llama.cpp's names of its tensors. */
export function ggufWeights(
  config: Sizes & Partial<Pick<LlamaParts, 'norms'>>,
  { rules = {}, mlp = 'mlp', rows }: GgufWeights = {},
): WeightRules {
  const [q, k] = ['blk.*.attn_q.*', 'blk.*.attn_k.*'].map((pattern) => (rows === undefined ? pattern : reordered(pattern, rows)));
  const part = `model.layers.*.${mlp}`;
  const shared = {
    'model.embed_tokens.*': 'token_embd.*',
    'model.norm.*': 'output_norm.*',
    'lm_head.*': 'output.*',
    'model.layers.*.input_layernorm.*': 'blk.*.attn_norm.*',
    'model.layers.*.self_attn.qkv_proj.*': stack([q!, k!, 'blk.*.attn_v.*'], qkvRows(config)),
    'model.layers.*.self_attn.o_proj.*': 'blk.*.attn_output.*',
    'model.layers.*.self_attn.q_norm.*': 'blk.*.attn_q_norm.*',
    'model.layers.*.self_attn.k_norm.*': 'blk.*.attn_k_norm.*',
    'model.layers.*.self_attn.attn.sinks': 'blk.*.attn_sinks.weight',
    ...ggufNorms[config.norms ?? 'before'],
    [`${part}.gate_up_proj.*`]: stack(['blk.*.ffn_gate.*', 'blk.*.ffn_up.*']),
    [`${part}.down_proj.*`]: 'blk.*.ffn_down.*',
    [`${part}.gate.*`]: 'blk.*.ffn_gate_inp.*',
    // Older files have a tensor for each expert.
    [`${part}.experts.w13_weight`]: either(
      stack(['blk.*.ffn_gate_exps.weight', 'blk.*.ffn_up_exps.weight'], undefined, 1),
      perExpert(stack(['blk.*.ffn_gate.#.weight', 'blk.*.ffn_up.#.weight'])),
    ),
    [`${part}.experts.w2_weight`]: either('blk.*.ffn_down_exps.weight', perExpert('blk.*.ffn_down.#.weight')),
    [`${part}.experts.w13_bias`]: stack(['blk.*.ffn_gate_exps.bias', 'blk.*.ffn_up_exps.bias'], undefined, 1),
    [`${part}.experts.w2_bias`]: 'blk.*.ffn_down_exps.bias',
  };
  const unused = ['rope_freqs.weight', 'rope_factors_*.weight', ...(config.tieWordEmbeddings ? ['output.weight'] : [])];
  return new WeightRules({ ...rules, ...shared, ...rules }, { unused });
}
