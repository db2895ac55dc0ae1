import { Module, ModuleList, ops, type Region, type Tensor } from '@graft/graph';
import type { LayerConfig, Llama4TextConfig } from '../config.ts';
import type { ModelContext } from '../context.ts';
import { Attention, ChunkedLocalAttention } from '../layers/attention.ts';
import { Embedding } from '../layers/embedding.ts';
import { FusedMoe } from '../layers/fused-moe.ts';
import { Linear } from '../layers/linear.ts';
import { HeadRmsNorm, RmsNorm } from '../layers/norm.ts';
import { RotaryEmbedding } from '../layers/rotary.ts';
import type { IntermediateTensors, LanguageModel, ModelOutput } from './interfaces.ts';
import { pipelineLayers } from './pipeline.ts';

/** SwiGLU: the feed-forward part of a dense layer, and the shared expert. vLLM: `LlamaMLP`. */
export class Llama4Mlp extends Module {
  readonly gate_up_proj: Linear;
  readonly down_proj: Linear;

  constructor(hiddenSize: number, intermediateSize: number) {
    super();
    this.gate_up_proj = new Linear(hiddenSize, 2 * intermediateSize);
    this.down_proj = new Linear(intermediateSize, hiddenSize);
  }

  /** `[batch, sequence, hidden]` -> the same. */
  forward(x: Tensor): Tensor {
    const gateUp = this.gate_up_proj.forward(x); // [batch, sequence, 2 * intermediate]
    return this.down_proj.forward(ops.siluAndMul({ x: gateUp }));
  }
}

/** Routed experts beside one that every token uses. vLLM: `Llama4MoE`. */
export class Llama4Moe extends Module {
  readonly router: Linear;
  readonly experts: FusedMoe;
  readonly shared_expert: Llama4Mlp;

  constructor(config: Llama4TextConfig) {
    super();
    this.router = new Linear(config.hiddenSize, config.numLocalExperts);
    this.experts = new FusedMoe(config.numLocalExperts, config.numExpertsPerTok, config.hiddenSize, config.intermediateSize);
    this.shared_expert = new Llama4Mlp(config.hiddenSize, config.intermediateSize);
  }

  forward(x: Tensor): Tensor {
    const routed = this.experts.forward(x, this.router.forward(x));
    return routed.add(this.shared_expert.forward(x));
  }
}

/**
 * Attention of one layer. A RoPE layer rotates, may norm queries and keys and attends within its chunk;
 * a NoPE layer does neither, may scale queries by their position and attends to all. vLLM: `Llama4Attention`.
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

  constructor(config: Llama4TextConfig, layer: LayerConfig, rotary: RotaryEmbedding) {
    super();
    const { hiddenSize, numAttentionHeads: numHeads, numKeyValueHeads: numKvHeads, headDim, attentionBias: bias } = config;
    this.nope = !layer.rope;
    this.qSize = numHeads * headDim;
    this.kvSize = numKvHeads * headDim;
    this.attnTemperatureTuning = this.nope && config.attnTemperatureTuning;
    this.floorScale = config.floorScale;
    this.attnScale = config.attnScale;
    this.qkv_proj = new Linear(hiddenSize, this.qSize + 2 * this.kvSize, { bias });
    this.o_proj = new Linear(this.qSize, hiddenSize, { bias });
    this.rotary_emb = layer.rope ? rotary : null;
    this.qk_norm = layer.rope && config.useQkNorm ? new HeadRmsNorm(headDim, config.rmsNormEps) : null;
    const options = { numHeads, numKvHeads, headDim, scale: headDim ** -0.5 };
    const chunked = layer.rope && config.attentionChunkSize !== null;
    this.attn = chunked ? new ChunkedLocalAttention(config.attentionChunkSize!, options) : new Attention(options);
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

  /** Factor of the queries by position, 1 near the start and growing slowly. `[batch, sequence]` -> `[batch, sequence, 1]`. vLLM: `_get_attn_scale`. */
  getAttnScale(positions: Tensor): Tensor {
    const floored = positions.cast('float32').add(1).div(this.floorScale).floor();
    return floored.add(1).log().mul(this.attnScale).add(1).reshape(positions.dim(0), positions.dim(1), 1);
  }
}

/** One layer: attention, then experts or a dense part, over the residual stream. Captured once a kind. vLLM: `Llama4DecoderLayer`. */
export class Llama4DecoderLayer extends Module {
  static override readonly region: Region = { name: 'decoder-layer', inputs: ['positions', 'hiddenStates', 'residual'] };
  readonly self_attn: Llama4Attention;
  readonly feed_forward: Llama4Moe | Llama4Mlp;
  readonly input_layernorm: RmsNorm;
  readonly post_attention_layernorm: RmsNorm;

  constructor(config: Llama4TextConfig, layer: LayerConfig, rotary: RotaryEmbedding) {
    super();
    this.self_attn = new Llama4Attention(config, layer, rotary);
    this.feed_forward = layer.moe ? new Llama4Moe(config) : new Llama4Mlp(config.hiddenSize, config.intermediateSizeMlp);
    this.input_layernorm = new RmsNorm(config.hiddenSize, config.rmsNormEps);
    this.post_attention_layernorm = new RmsNorm(config.hiddenSize, config.rmsNormEps);
  }

  /** @param residual the stream so far, or null on the first layer. @returns this layer's output and the stream without it. */
  forward(positions: Tensor, hiddenStates: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    if (residual === null) {
      residual = hiddenStates;
      hiddenStates = this.input_layernorm.forward(hiddenStates);
    } else {
      [hiddenStates, residual] = this.input_layernorm.forwardWithResidual(hiddenStates, residual);
    }
    hiddenStates = this.self_attn.forward(positions, hiddenStates);
    [hiddenStates, residual] = this.post_attention_layernorm.forwardWithResidual(hiddenStates, residual);
    return [this.feed_forward.forward(hiddenStates), residual];
  }
}

/** Stands in the list for a layer that another pipeline rank holds, so that names stay the same. vLLM: `PPMissingLayer`. */
export class PipelineMissingLayer extends Module {}

/** Embedding, layers and final norm. vLLM: `Llama4Model`. */
export class Llama4Model extends Module {
  readonly embed_tokens: Embedding | null;
  readonly layers: ModuleList<Llama4DecoderLayer | PipelineMissingLayer>;
  readonly norm: RmsNorm | null;
  readonly startLayer: number;
  readonly endLayer: number;
  auxHiddenStateLayers: readonly number[] = [];

  constructor({ config, maxModelLength, pipeline }: ModelContext) {
    super();
    const { rank, size } = pipeline;
    const { start, end } = pipelineLayers(config.numHiddenLayers, pipeline);
    this.startLayer = start;
    this.endLayer = end;
    const rotary = new RotaryEmbedding(config.headDim, maxModelLength, config.rope);
    const held = (i: number): boolean => i >= this.startLayer && i < this.endLayer;
    this.embed_tokens =
      rank === 0 || (config.tieWordEmbeddings && rank === size - 1) ? new Embedding(config.vocabSize, config.hiddenSize) : null;
    this.layers = new ModuleList(
      config.layers.map((layer, i) => (held(i) ? new Llama4DecoderLayer(config, layer, rotary) : new PipelineMissingLayer())),
    );
    this.norm = rank === size - 1 ? new RmsNorm(config.hiddenSize, config.rmsNormEps) : null;
  }

  /** See `LanguageModel.forward`. */
  forward(inputIds: Tensor, positions: Tensor, intermediateTensors: IntermediateTensors | null, inputsEmbeds: Tensor | null): ModelOutput {
    let hiddenStates = intermediateTensors?.hidden_states ?? inputsEmbeds ?? this.embedInputIds(inputIds);
    let residual = intermediateTensors === null ? this.initialResidual(hiddenStates) : intermediateTensors.residual;
    const auxHiddenStates: Tensor[] = [];
    if (this.startLayer === 0) this.maybeAddHiddenState(auxHiddenStates, 0, hiddenStates, residual);
    for (const [index, layer] of [...this.layers].entries()) {
      if (!(layer instanceof Llama4DecoderLayer)) continue;
      [hiddenStates, residual] = layer.forward(positions, hiddenStates, residual);
      this.maybeAddHiddenState(auxHiddenStates, index + 1, hiddenStates, residual);
    }
    const result =
      this.norm === null ? { hidden_states: hiddenStates, residual: residual! } : this.norm.forwardWithResidual(hiddenStates, residual!)[0];
    return auxHiddenStates.length > 0 ? [result, auxHiddenStates] : result;
  }

  embedInputIds(inputIds: Tensor): Tensor {
    return this.embed_tokens!.forward(inputIds); // [batch, sequence, hidden]
  }

  /** The residual that enters the first layer. Upstream has none; a seam for overrides. */
  initialResidual(_hiddenStates: Tensor): Tensor | null {
    return null;
  }

  private maybeAddHiddenState(states: Tensor[], index: number, hiddenStates: Tensor, residual: Tensor | null): void {
    if (!this.auxHiddenStateLayers.includes(index)) return;
    states.push(residual === null ? hiddenStates : hiddenStates.add(residual));
  }
}

/** A Llama 4 that continues text. vLLM: `Llama4ForCausalLM`. */
export class Llama4ForCausalLM extends Module implements LanguageModel {
  readonly model: Llama4Model;
  /** Null where the embedding's weight serves both ends, or another rank has it. */
  readonly lm_head: Linear | null;

  constructor(context: ModelContext) {
    super();
    const { config, pipeline } = context;
    this.model = this.createModel(context);
    this.lm_head = config.tieWordEmbeddings || pipeline.rank < pipeline.size - 1 ? null : new Linear(config.hiddenSize, config.vocabSize);
  }

  /** Makes the inner model; a seam for overrides. */
  createModel(context: ModelContext): Llama4Model {
    return new Llama4Model(context);
  }

  forward(inputIds: Tensor, positions: Tensor, intermediateTensors: IntermediateTensors | null, inputsEmbeds: Tensor | null): ModelOutput {
    return this.model.forward(inputIds, positions, intermediateTensors, inputsEmbeds);
  }

  computeLogits(hiddenStates: Tensor): Tensor {
    if (this.lm_head !== null) return this.lm_head.forward(hiddenStates);
    return ops.linear({ x: hiddenStates, weight: this.model.embed_tokens!.weight });
  }

  setAuxHiddenStateLayers(layers: readonly number[]): void {
    this.model.auxHiddenStateLayers = [...layers].sort((a, b) => a - b);
  }
}
