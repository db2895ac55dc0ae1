import {
  Attention,
  DecoderForCausalLM,
  DecoderLayer,
  DecoderModel,
  Linear,
  LlamaMlp,
  type ModelContext,
  RmsNorm,
  RotaryEmbedding,
} from '@graft/core-model';
import { Module, type Tensor } from '@graft/graph';
import type { MyModelConfig } from './family.ts';

/** Attention whose queries and keys are normed head by head before they are rotated. Every part is built with `build`, so that it can be overridden. */
export class MyModelAttention extends Module {
  readonly headDim: number;
  readonly sizes: readonly [q: number, k: number, v: number];
  readonly qkv_proj: Linear;
  readonly o_proj: Linear;
  readonly q_norm: RmsNorm;
  readonly k_norm: RmsNorm;
  readonly rotary_emb: RotaryEmbedding;
  readonly attn: Attention;

  constructor({ config, build }: ModelContext<MyModelConfig>, rotary: RotaryEmbedding) {
    super();
    const { hiddenSize, numAttentionHeads: numHeads, numKeyValueHeads: numKvHeads, headDim, rmsNormEps, attentionBias: bias } = config;
    this.headDim = headDim;
    this.sizes = [numHeads * headDim, numKvHeads * headDim, numKvHeads * headDim];
    this.qkv_proj = build(Linear, hiddenSize, (numHeads + 2 * numKvHeads) * headDim, { bias });
    this.o_proj = build(Linear, numHeads * headDim, hiddenSize, { bias });
    this.q_norm = build(RmsNorm, headDim, rmsNormEps);
    this.k_norm = build(RmsNorm, headDim, rmsNormEps);
    this.rotary_emb = rotary;
    this.attn = build(Attention, { numHeads, numKvHeads, headDim, scale: headDim ** -0.5 });
  }

  /** `positions [batch, sequence]`, `hiddenStates [batch, sequence, hidden]` -> as `hiddenStates`. */
  forward(positions: Tensor, hiddenStates: Tensor): Tensor {
    let [query, key, value] = this.qkv_proj.forward(hiddenStates).split(...this.sizes);
    query = this.normHeads(this.q_norm, query);
    key = this.normHeads(this.k_norm, key);
    [query, key] = this.rotary_emb.forward(positions, query, key);
    return this.o_proj.forward(this.attn.forward(query, key, value));
  }

  private normHeads(norm: RmsNorm, x: Tensor): Tensor {
    const [batch, sequence, width] = [x.dim(0), x.dim(1), x.dim(2)];
    const heads = x.reshape(batch, sequence, width.dividedBy(this.headDim), this.headDim); // [batch, sequence, heads, headDim]
    return norm.forward(heads).reshape(batch, sequence, width);
  }
}

export class MyModelDecoderLayer extends DecoderLayer {
  constructor(context: ModelContext<MyModelConfig>, rotary: RotaryEmbedding) {
    const { hiddenSize, intermediateSize } = context.config;
    super(context, context.build(MyModelAttention, context, rotary), context.build(LlamaMlp, context, hiddenSize, intermediateSize));
  }
}

export class MyModelModel extends DecoderModel<MyModelDecoderLayer> {
  constructor(context: ModelContext<MyModelConfig>) {
    const rotary = context.build(RotaryEmbedding, context.config.headDim, context.maxModelLength, context.config.rope);
    super(context, () => context.build(MyModelDecoderLayer, context, rotary));
  }
}

export class MyModelForCausalLM extends DecoderForCausalLM<MyModelModel> {
  constructor(context: ModelContext<MyModelConfig>) {
    super(context, context.build(MyModelModel, context));
  }
}
