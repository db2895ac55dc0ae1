import { Module, type Region, type Tensor } from '@graft/graph';
import type { ModelContext } from '../context.ts';
import type { Llama4Config } from '../families/llama4-config.ts';
import { Attention, ChunkedLocalAttention } from '../layers/attention.ts';
import { FusedMoe } from '../layers/fused-moe.ts';
import { Linear } from '../layers/linear.ts';
import { HeadRmsNorm, RmsNorm } from '../layers/norm.ts';
import { RotaryEmbedding } from '../layers/rotary.ts';
import { DecoderForCausalLM, DecoderModel, type ResidualLayer } from './decoder.ts';
import { LlamaMlp } from './llama.ts';

/** Routed experts, plus one that every token uses. vLLM: `Llama4MoE`. */
export class Llama4Moe extends Module {
  readonly router: Linear;
  readonly experts: FusedMoe;
  readonly shared_expert: LlamaMlp;

  constructor(context: ModelContext<Llama4Config>) {
    super();
    const { hiddenSize, intermediateSize, numLocalExperts, numExpertsPerTok } = context.config;
    this.router = context.build(Linear, hiddenSize, numLocalExperts);
    this.experts = context.build(FusedMoe, numLocalExperts, numExpertsPerTok, hiddenSize, intermediateSize);
    this.shared_expert = context.build(LlamaMlp, context, hiddenSize, intermediateSize);
  }

  forward(x: Tensor): Tensor {
    const routed = this.experts.forward(x, this.router.forward(x));
    return routed.add(this.shared_expert.forward(x));
  }
}

/**
 * A RoPE layer rotates, may norm queries and keys, and attends within its chunk. A NoPE layer may scale queries by their position, and attends to all
 * tokens. vLLM: `Llama4Attention`.
 */
export class Llama4Attention extends Module {
  readonly qSize: number;
  readonly kvSize: number;
  readonly nope: boolean;
  readonly attnTemperatureTuning: boolean;
  readonly floorScale: number;
  readonly attnScale: number;
  readonly qkv_proj: Linear;
  readonly o_proj: Linear;
  readonly rotary_emb: RotaryEmbedding | null;
  readonly qk_norm: HeadRmsNorm | null;
  readonly attn: Attention;

  constructor({ config, build }: ModelContext<Llama4Config>, layerIndex: number, rotary: RotaryEmbedding) {
    super();
    const { hiddenSize, numAttentionHeads: numHeads, numKeyValueHeads: numKvHeads, headDim, attentionBias: bias } = config;
    const { rope } = config.layers[layerIndex]!;
    this.nope = !rope;
    this.qSize = numHeads * headDim;
    this.kvSize = numKvHeads * headDim;
    this.attnTemperatureTuning = this.nope && config.attnTemperatureTuning;
    this.floorScale = config.floorScale;
    this.attnScale = config.attnScale;
    this.qkv_proj = build(Linear, hiddenSize, this.qSize + 2 * this.kvSize, { bias });
    this.o_proj = build(Linear, this.qSize, hiddenSize, { bias });
    this.rotary_emb = rope ? rotary : null;
    this.qk_norm = rope && config.useQkNorm ? build(HeadRmsNorm, headDim, config.rmsNormEps) : null;
    const options = { numHeads, numKvHeads, headDim, scale: headDim ** -0.5 };
    const chunked = rope && config.attentionChunkSize !== null;
    this.attn = chunked ? build(ChunkedLocalAttention, config.attentionChunkSize!, options) : build(Attention, options);
  }

  /** `positions [batch, sequence]`, `hiddenStates [batch, sequence, hidden]` -> as `hiddenStates`. */
  forward(positions: Tensor, hiddenStates: Tensor): Tensor {
    const qkv = this.qkv_proj.forward(hiddenStates); // [batch, sequence, qSize + 2 * kvSize]
    let [query, key, value] = qkv.split(this.qSize, this.kvSize, this.kvSize);
    if (this.rotary_emb !== null) [query, key] = this.rotary_emb.forward(positions, query, key);
    if (this.qk_norm !== null) {
      query = this.qk_norm.forward(query);
      key = this.qk_norm.forward(key);
    }
    if (this.attnTemperatureTuning && this.nope) query = query.mul(this.getAttnScale(positions));
    return this.o_proj.forward(this.attn.forward(query, key, value));
  }

  /** The factor of queries by position: 1 near the start, then growing slowly. `[batch, sequence]` -> `[batch, sequence, 1]`. vLLM: `_get_attn_scale`. */
  getAttnScale(positions: Tensor): Tensor {
    const floored = positions.cast('float32').add(1).div(this.floorScale).floor();
    return floored.add(1).log().mul(this.attnScale).add(1).reshape(positions.dim(0), positions.dim(1), 1);
  }
}

/** Attention, then experts or a dense part, each after a norm. vLLM: `Llama4DecoderLayer`. */
export class Llama4DecoderLayer extends Module implements ResidualLayer {
  static override readonly region: Region = { name: 'decoder-layer', inputs: ['positions', 'hiddenStates', 'residual'] };
  readonly self_attn: Llama4Attention;
  readonly feed_forward: Llama4Moe | LlamaMlp;
  readonly input_layernorm: RmsNorm;
  readonly post_attention_layernorm: RmsNorm;

  constructor(context: ModelContext<Llama4Config>, layerIndex: number, rotary: RotaryEmbedding) {
    super();
    const { config, build } = context;
    const { moe } = config.layers[layerIndex]!;
    this.self_attn = build(Llama4Attention, context, layerIndex, rotary);
    this.feed_forward = moe ? build(Llama4Moe, context) : build(LlamaMlp, context, config.hiddenSize, config.intermediateSizeMlp);
    this.input_layernorm = build(RmsNorm, config.hiddenSize, config.rmsNormEps);
    this.post_attention_layernorm = build(RmsNorm, config.hiddenSize, config.rmsNormEps);
  }

  forward(positions: Tensor, hiddenStates: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    [hiddenStates, residual] = this.input_layernorm.forwardWithResidual(hiddenStates, residual);
    hiddenStates = this.self_attn.forward(positions, hiddenStates);
    [hiddenStates, residual] = this.post_attention_layernorm.forwardWithResidual(hiddenStates, residual);
    return [this.feed_forward.forward(hiddenStates), residual];
  }
}

/** vLLM: `Llama4Model`. */
export class Llama4Model extends DecoderModel<Llama4DecoderLayer> {
  constructor(context: ModelContext<Llama4Config>) {
    const { headDim, rope } = context.config;
    const rotary = context.build(RotaryEmbedding, headDim, context.maxModelLength, rope, { interleaved: true });
    super(context, (index) => context.build(Llama4DecoderLayer, context, index, rotary));
  }
}

/** A Llama 4 that continues text. vLLM: `Llama4ForCausalLM`. */
export class Llama4ForCausalLM extends DecoderForCausalLM<Llama4Model> {
  constructor(context: ModelContext<Llama4Config>) {
    super(context, context.build(Llama4Model, context));
  }
}
