import { Module, ops, type Region, type Tensor } from '@graft/graph';
import type { ModelContext } from '../context.ts';
import type { LlamaConfig, LlamaParts } from '../families/llama-config.ts';
import { Attention } from '../layers/attention.ts';
import { FusedMoe } from '../layers/fused-moe.ts';
import { Linear } from '../layers/linear.ts';
import { GemmaRmsNorm, RmsNorm } from '../layers/norm.ts';
import { type RopeConfig, RotaryEmbedding } from '../layers/rotary.ts';
import { DecoderForCausalLM, DecoderLayer, DecoderModel, type ResidualLayer } from './decoder.ts';

/** A feed-forward part with a gate: SwiGLU, or with Gemma's GELU. vLLM: `LlamaMLP`. */
export class LlamaMlp extends Module {
  readonly gate_up_proj: Linear;
  readonly down_proj: Linear;
  readonly activation: LlamaParts['activation'];

  constructor(
    { build }: ModelContext,
    hiddenSize: number,
    intermediateSize: number,
    { activation = 'silu', ...options }: { bias?: boolean; activation?: LlamaParts['activation'] } = {},
  ) {
    super();
    this.gate_up_proj = build(Linear, hiddenSize, 2 * intermediateSize, options);
    this.down_proj = build(Linear, intermediateSize, hiddenSize, options);
    this.activation = activation;
  }

  /** `[batch, sequence, hidden]` -> the same. */
  forward(x: Tensor): Tensor {
    const gateUp = this.gate_up_proj.forward(x); // [batch, sequence, 2 * intermediate]
    return this.down_proj.forward(this.activation === 'silu' ? ops.siluAndMul({ x: gateUp }) : ops.geluTanhAndMul({ x: gateUp }));
  }
}

/** Experts, and the router that chooses for each token. vLLM: `MixtralMoE`, `Qwen3MoeSparseMoeBlock`. */
export class SparseMoe extends Module {
  readonly gate: Linear;
  readonly experts: FusedMoe;

  constructor({ config, build }: ModelContext<LlamaConfig>) {
    super();
    const { numExperts, topK, intermediateSize, ...options } = config.moe!;
    this.gate = build(Linear, config.hiddenSize, numExperts, options);
    this.experts = build(FusedMoe, numExperts, topK, config.hiddenSize, intermediateSize, options);
  }

  forward(x: Tensor): Tensor {
    return this.experts.forward(x, this.gate.forward(x));
  }
}

/** Builds a norm of this config's form. @param size of what is normed; the hidden size unless given. */
function buildNorm({ config, build }: ModelContext<LlamaConfig>, size = config.hiddenSize): RmsNorm {
  return build(normOf(config), size, config.rmsNormEps);
}

const normOf = ({ gemmaNorm }: LlamaConfig): typeof RmsNorm => (gemmaNorm ? GemmaRmsNorm : RmsNorm);

/** Attention of one layer. vLLM: `LlamaAttention`, with what `Qwen3Attention`, `Gemma3Attention`, `Olmo2Attention` and others add. */
export class LlamaAttention extends Module {
  readonly qSize: number;
  readonly kvSize: number;
  readonly qkv_proj: Linear;
  readonly o_proj: Linear;
  readonly q_norm: RmsNorm | null;
  readonly k_norm: RmsNorm | null;
  /** Heads of queries and of keys that are normed apart from each other. */
  readonly normedHeads: readonly [q: number, k: number];
  readonly rotary_emb: RotaryEmbedding | null;
  readonly queryScaling: LlamaConfig['queryScaling'];
  readonly attn: Attention;

  /** @param rotary null where the layer has no positions. */
  constructor(context: ModelContext<LlamaConfig>, layerIndex: number, rotary: RotaryEmbedding | null) {
    super();
    const { config, build } = context;
    const { hiddenSize, numAttentionHeads: numHeads, numKeyValueHeads: numKvHeads, headDim, qkNorm, sinks } = config;
    this.qSize = numHeads * headDim;
    this.kvSize = numKvHeads * headDim;
    this.qkv_proj = build(Linear, hiddenSize, this.qSize + 2 * this.kvSize, { bias: config.qkvBias });
    this.o_proj = build(Linear, this.qSize, hiddenSize, { bias: config.attentionBias });
    this.normedHeads = qkNorm === 'head' ? [numHeads, numKvHeads] : [1, 1];
    this.q_norm = qkNorm && buildNorm(context, this.qSize / this.normedHeads[0]);
    this.k_norm = qkNorm && buildNorm(context, this.kvSize / this.normedHeads[1]);
    this.rotary_emb = rotary;
    this.queryScaling = config.queryScaling;
    const { window } = config.layers[layerIndex]!;
    const { attentionScale: scale, attentionSoftcap: softcap } = config;
    this.attn = build(Attention, { numHeads, numKvHeads, headDim, scale, window, softcap, sinks });
  }

  /** `positions [batch, sequence]`, `hiddenStates [batch, sequence, hidden]` -> as `hiddenStates`. */
  forward(positions: Tensor, hiddenStates: Tensor): Tensor {
    let [query, key, value] = this.qkv_proj.forward(hiddenStates).split(this.qSize, this.kvSize, this.kvSize);
    if (this.q_norm !== null) query = this.normHeads(this.q_norm, query, this.normedHeads[0]);
    if (this.k_norm !== null) key = this.normHeads(this.k_norm, key, this.normedHeads[1]);
    if (this.rotary_emb !== null) [query, key] = this.rotary_emb.forward(positions, query, key);
    if (this.queryScaling !== null) query = query.mul(this.getAttnScale(positions, this.queryScaling));
    return this.o_proj.forward(this.attn.forward(query, key, value));
  }

  /** Factor of the queries by position. `[batch, sequence]` -> `[batch, sequence, 1]`. vLLM: `MistralAttention._get_llama_4_attn_scale`. */
  getAttnScale(positions: Tensor, { beta, period }: NonNullable<LlamaConfig['queryScaling']>): Tensor {
    const passed = positions.cast('float32').div(period).floor();
    return passed.add(1).log().mul(beta).add(1).reshape(positions.dim(0), positions.dim(1), 1);
  }

  /** `[batch, sequence, heads * width]` -> the same, each `width` normed. */
  normHeads(norm: RmsNorm, x: Tensor, heads: number): Tensor {
    const [batch, sequence, all] = [x.dim(0), x.dim(1), x.dim(2)];
    return norm.forward(x.reshape(batch, sequence, heads, all.dividedBy(heads))).reshape(batch, sequence, all);
  }
}

/** The attention and the feed-forward part of a layer. */
function partsOf(context: ModelContext<LlamaConfig>, layerIndex: number, rotary: RotaryEmbedding | null) {
  const { config, build } = context;
  const { hiddenSize, intermediateSize, mlpBias: bias, activation } = config;
  return {
    attention: build(LlamaAttention, context, layerIndex, rotary),
    mlp: config.layers[layerIndex]!.moe
      ? build(SparseMoe, context)
      : build(LlamaMlp, context, hiddenSize, intermediateSize, { bias, activation }),
  };
}

/** A norm before attention and one before the feed-forward part. vLLM: `LlamaDecoderLayer`, `GraniteDecoderLayer`. */
export class LlamaDecoderLayer extends DecoderLayer {
  declare readonly self_attn: LlamaAttention;
  declare readonly mlp: LlamaMlp | SparseMoe;
  readonly residualScale: number;

  constructor(context: ModelContext<LlamaConfig>, layerIndex: number, rotary: RotaryEmbedding | null) {
    const { attention, mlp } = partsOf(context, layerIndex, rotary);
    super(context, attention, mlp, normOf(context.config));
    this.residualScale = context.config.residualScale;
  }

  override forward(positions: Tensor, hiddenStates: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    [hiddenStates, residual] = this.input_layernorm.forwardWithResidual(hiddenStates, residual);
    hiddenStates = this.scaled(this.self_attn.forward(positions, hiddenStates));
    [hiddenStates, residual] = this.post_attention_layernorm.forwardWithResidual(hiddenStates, residual);
    return [this.scaled(this.mlp.forward(hiddenStates)), residual];
  }

  scaled(x: Tensor): Tensor {
    return this.residualScale === 1 ? x : x.mul(this.residualScale);
  }
}

/** Norms before and after attention, and before and after the feed-forward part. vLLM: `Gemma2DecoderLayer`. */
export class Gemma2DecoderLayer extends LlamaDecoderLayer {
  readonly pre_feedforward_layernorm: RmsNorm;
  readonly post_feedforward_layernorm: RmsNorm;

  constructor(context: ModelContext<LlamaConfig>, layerIndex: number, rotary: RotaryEmbedding | null) {
    super(context, layerIndex, rotary);
    this.pre_feedforward_layernorm = buildNorm(context);
    this.post_feedforward_layernorm = buildNorm(context);
  }

  override forward(positions: Tensor, hiddenStates: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    [hiddenStates, residual] = this.input_layernorm.forwardWithResidual(hiddenStates, residual);
    hiddenStates = this.post_attention_layernorm.forward(this.self_attn.forward(positions, hiddenStates));
    [hiddenStates, residual] = this.pre_feedforward_layernorm.forwardWithResidual(hiddenStates, residual);
    return [this.post_feedforward_layernorm.forward(this.mlp.forward(hiddenStates)), residual];
  }
}

/** A norm after attention and one after the feed-forward part, none before them. vLLM: `Olmo2DecoderLayer`. */
export class Olmo2DecoderLayer extends Module implements ResidualLayer {
  static override readonly region: Region = DecoderLayer.region;
  readonly self_attn: LlamaAttention;
  readonly mlp: LlamaMlp | SparseMoe;
  readonly post_attention_layernorm: RmsNorm;
  readonly post_feedforward_layernorm: RmsNorm;

  constructor(context: ModelContext<LlamaConfig>, layerIndex: number, rotary: RotaryEmbedding | null) {
    super();
    const { attention, mlp } = partsOf(context, layerIndex, rotary);
    this.self_attn = attention;
    this.mlp = mlp;
    this.post_attention_layernorm = buildNorm(context);
    this.post_feedforward_layernorm = buildNorm(context);
  }

  forward(positions: Tensor, hiddenStates: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    if (residual !== null) hiddenStates = hiddenStates.add(residual);
    hiddenStates = hiddenStates.add(this.post_attention_layernorm.forward(this.self_attn.forward(positions, hiddenStates)));
    return [this.post_feedforward_layernorm.forward(this.mlp.forward(hiddenStates)), hiddenStates];
  }
}

const layerClasses = { before: LlamaDecoderLayer, after: Olmo2DecoderLayer, both: Gemma2DecoderLayer };

/** vLLM: `LlamaModel`, `Gemma2Model` and others of the form. */
export class LlamaModel extends DecoderModel<LlamaDecoderLayer | Olmo2DecoderLayer> {
  readonly embeddingScale: number;

  constructor(context: ModelContext<LlamaConfig>) {
    const { config, build, maxModelLength } = context;
    const rotaries = new Map<RopeConfig, RotaryEmbedding>();
    const rotaryOf = (rope: RopeConfig): RotaryEmbedding => {
      const rotary = rotaries.get(rope) ?? build(RotaryEmbedding, config.headDim, maxModelLength, rope);
      rotaries.set(rope, rotary);
      return rotary;
    };
    const buildLayer = (index: number): LlamaDecoderLayer | Olmo2DecoderLayer => {
      const { rope } = config.layers[index]!;
      return build(layerClasses[config.norms], context, index, rope && rotaryOf(rope));
    };
    super(context, buildLayer, normOf(config));
    this.embeddingScale = config.embeddingScale;
  }

  override embedInputIds(inputIds: Tensor): Tensor {
    const embedded = super.embedInputIds(inputIds); // [batch, sequence, hidden]
    return this.embeddingScale === 1 ? embedded : embedded.mul(this.embeddingScale);
  }
}

/** A model of Llama's form that continues text. vLLM: `LlamaForCausalLM`. */
export class LlamaForCausalLM extends DecoderForCausalLM<LlamaModel> {
  readonly logitsScale: number;
  readonly logitsSoftcap: number | null;

  constructor(context: ModelContext<LlamaConfig>) {
    super(context, context.build(LlamaModel, context));
    this.logitsScale = context.config.logitsScale;
    this.logitsSoftcap = context.config.logitsSoftcap;
  }

  override computeLogits(hiddenStates: Tensor): Tensor {
    let logits = super.computeLogits(hiddenStates);
    if (this.logitsScale !== 1) logits = logits.div(this.logitsScale);
    return this.logitsSoftcap === null ? logits : logits.div(this.logitsSoftcap).tanh().mul(this.logitsSoftcap);
  }
}
