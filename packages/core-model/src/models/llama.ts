import { Module, ops, type Tensor } from '@graft/graph';
import type { ModelContext } from '../context.ts';
import type { LlamaConfig } from '../families/llama.ts';
import { Attention } from '../layers/attention.ts';
import { Linear } from '../layers/linear.ts';
import { RotaryEmbedding } from '../layers/rotary.ts';
import { DecoderForCausalLM, DecoderLayer, DecoderModel } from './decoder.ts';

/** SwiGLU: the feed-forward part of a layer, and Llama 4's shared expert. vLLM: `LlamaMLP`. */
export class LlamaMlp extends Module {
  readonly gate_up_proj: Linear;
  readonly down_proj: Linear;

  constructor({ build }: ModelContext, hiddenSize: number, intermediateSize: number, options: { bias?: boolean } = {}) {
    super();
    this.gate_up_proj = build(Linear, hiddenSize, 2 * intermediateSize, options);
    this.down_proj = build(Linear, intermediateSize, hiddenSize, options);
  }

  /** `[batch, sequence, hidden]` -> the same. */
  forward(x: Tensor): Tensor {
    const gateUp = this.gate_up_proj.forward(x); // [batch, sequence, 2 * intermediate]
    return this.down_proj.forward(ops.siluAndMul({ x: gateUp }));
  }
}

/** vLLM: `LlamaAttention`. */
export class LlamaAttention extends Module {
  readonly qSize: number;
  readonly kvSize: number;
  readonly qkv_proj: Linear;
  readonly o_proj: Linear;
  readonly rotary_emb: RotaryEmbedding;
  readonly attn: Attention;

  constructor({ config, build }: ModelContext<LlamaConfig>, rotary: RotaryEmbedding) {
    super();
    const { hiddenSize, numAttentionHeads: numHeads, numKeyValueHeads: numKvHeads, headDim, qkvBias, attentionBias } = config;
    this.qSize = numHeads * headDim;
    this.kvSize = numKvHeads * headDim;
    this.qkv_proj = build(Linear, hiddenSize, this.qSize + 2 * this.kvSize, { bias: qkvBias });
    this.o_proj = build(Linear, this.qSize, hiddenSize, { bias: attentionBias });
    this.rotary_emb = rotary;
    this.attn = build(Attention, { numHeads, numKvHeads, headDim, scale: headDim ** -0.5 });
  }

  /** `positions [batch, sequence]`, `hiddenStates [batch, sequence, hidden]` -> as `hiddenStates`. */
  forward(positions: Tensor, hiddenStates: Tensor): Tensor {
    let [query, key, value] = this.qkv_proj.forward(hiddenStates).split(this.qSize, this.kvSize, this.kvSize);
    [query, key] = this.rotary_emb.forward(positions, query, key);
    return this.o_proj.forward(this.attn.forward(query, key, value));
  }
}

/** vLLM: `LlamaDecoderLayer`. */
export class LlamaDecoderLayer extends DecoderLayer {
  declare readonly self_attn: LlamaAttention;
  declare readonly mlp: LlamaMlp;

  constructor(context: ModelContext<LlamaConfig>, rotary: RotaryEmbedding) {
    const { hiddenSize, intermediateSize, mlpBias: bias } = context.config;
    const mlp = context.build(LlamaMlp, context, hiddenSize, intermediateSize, { bias });
    super(context, context.build(LlamaAttention, context, rotary), mlp);
  }
}

/** vLLM: `LlamaModel`. */
export class LlamaModel extends DecoderModel<LlamaDecoderLayer> {
  constructor(context: ModelContext<LlamaConfig>) {
    const rotary = context.build(RotaryEmbedding, context.config.headDim, context.maxModelLength, context.config.rope);
    super(context, () => context.build(LlamaDecoderLayer, context, rotary));
  }
}

/** A Llama that continues text. vLLM: `LlamaForCausalLM`. */
export class LlamaForCausalLM extends DecoderForCausalLM<LlamaModel> {
  constructor(context: ModelContext<LlamaConfig>) {
    super(context, context.build(LlamaModel, context));
  }
}
