import { reordered, type Source, stack, WeightRules, type WeightRulesOptions } from '../weights/rules.ts';
import type { DecoderConfig } from './config-schema.ts';

type Sizes = Pick<DecoderConfig, 'numAttentionHeads' | 'numKeyValueHeads' | 'headDim' | 'tieWordEmbeddings'>;
type Rules = Readonly<Record<string, Source | string>>;

/** The rows of q, k and v in their stack. */
export function qkvRows({ numAttentionHeads, numKeyValueHeads, headDim }: Sizes): number[] {
  return [numAttentionHeads * headDim, numKeyValueHeads * headDim, numKeyValueHeads * headDim];
}

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
  /** The name of a dense layer's feed-forward part. */
  mlp?: string;
  /** The row of the file for each row of q and k, where their orders differ. */
  rows?: (row: number) => number;
}

/** The rules of a decoder's GGUF, with llama.cpp's names of tensors. */
export function ggufWeights(config: Sizes, { rules = {}, mlp = 'mlp', rows }: GgufWeights = {}): WeightRules {
  const [q, k] = ['blk.*.attn_q.*', 'blk.*.attn_k.*'].map((pattern) => (rows === undefined ? pattern : reordered(pattern, rows)));
  const shared = {
    'model.embed_tokens.*': 'token_embd.*',
    'model.norm.*': 'output_norm.*',
    'lm_head.*': 'output.*',
    'model.layers.*.input_layernorm.*': 'blk.*.attn_norm.*',
    'model.layers.*.self_attn.qkv_proj.*': stack([q!, k!, 'blk.*.attn_v.*'], qkvRows(config)),
    'model.layers.*.self_attn.o_proj.*': 'blk.*.attn_output.*',
    'model.layers.*.post_attention_layernorm.*': 'blk.*.ffn_norm.*',
    [`model.layers.*.${mlp}.gate_up_proj.*`]: stack(['blk.*.ffn_gate.*', 'blk.*.ffn_up.*']),
    [`model.layers.*.${mlp}.down_proj.*`]: 'blk.*.ffn_down.*',
  };
  return new WeightRules({ ...rules, ...shared, ...rules }, { unused: config.tieWordEmbeddings ? ['output.weight'] : [] });
}
