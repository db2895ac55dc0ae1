import { Module, ModuleList, ops, type Region, type Tensor } from '@graft/graph';
import type { ModelContext } from '../context.ts';
import type { DecoderConfig } from '../families/config-schema.ts';
import { Embedding } from '../layers/embedding.ts';
import { Linear } from '../layers/linear.ts';
import { RmsNorm } from '../layers/norm.ts';
import type { IntermediateTensors, LanguageModel, ModelOutput } from './interfaces.ts';
import { pipelineLayers } from './pipeline.ts';

/** A layer over the residual stream. Each kind of layer is captured once. */
export interface ResidualLayer extends Module {
  /** @param residual the stream so far, or null on the first layer. @returns this layer's output and the stream without it. */
  forward(positions: Tensor, hiddenStates: Tensor, residual: Tensor | null): [Tensor, Tensor];
}

/** Attention, then a feed-forward part, each after a norm. vLLM: the form of `LlamaDecoderLayer` and of most others. */
export class DecoderLayer extends Module implements ResidualLayer {
  static override readonly region: Region = { name: 'decoder-layer', inputs: ['positions', 'hiddenStates', 'residual'] };
  readonly self_attn: Module & { forward(positions: Tensor, hiddenStates: Tensor): Tensor };
  readonly mlp: Module & { forward(x: Tensor): Tensor };
  readonly input_layernorm: RmsNorm;
  readonly post_attention_layernorm: RmsNorm;

  constructor(
    { config, build }: ModelContext<DecoderConfig>,
    attention: DecoderLayer['self_attn'],
    mlp: DecoderLayer['mlp'],
    Norm: typeof RmsNorm = RmsNorm,
  ) {
    super();
    this.self_attn = attention;
    this.mlp = mlp;
    this.input_layernorm = build(Norm, config.hiddenSize, config.rmsNormEps);
    this.post_attention_layernorm = build(Norm, config.hiddenSize, config.rmsNormEps);
  }

  forward(positions: Tensor, hiddenStates: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    [hiddenStates, residual] = this.input_layernorm.forwardWithResidual(hiddenStates, residual);
    hiddenStates = this.self_attn.forward(positions, hiddenStates);
    [hiddenStates, residual] = this.post_attention_layernorm.forwardWithResidual(hiddenStates, residual);
    return [this.mlp.forward(hiddenStates), residual];
  }
}

/** Takes the index of a layer of another pipeline rank, which keeps the names of the others. vLLM: `PPMissingLayer`. */
export class PipelineMissingLayer extends Module {}

/** Embedding, layers and final norm. vLLM: the form of `LlamaModel` and of most others. */
export class DecoderModel<Layer extends ResidualLayer = ResidualLayer> extends Module {
  readonly embed_tokens: Embedding | null;
  readonly layers: ModuleList<Layer | PipelineMissingLayer>;
  readonly norm: RmsNorm | null;
  readonly startLayer: number;
  readonly endLayer: number;
  auxHiddenStateLayers: readonly number[] = [];

  /** @param buildLayer builds the layer at an index of the whole model. */
  constructor(
    { config, pipeline, build }: ModelContext<DecoderConfig>,
    buildLayer: (index: number) => Layer,
    Norm: typeof RmsNorm = RmsNorm,
  ) {
    super();
    const { rank, size } = pipeline;
    const { start, end } = pipelineLayers(config.numHiddenLayers, pipeline);
    const hasEmbedding = rank === 0 || (config.tieWordEmbeddings && rank === size - 1);
    this.startLayer = start;
    this.endLayer = end;
    this.embed_tokens = hasEmbedding ? build(Embedding, config.vocabSize, config.hiddenSize) : null;
    this.layers = new ModuleList(
      Array.from({ length: config.numHiddenLayers }, (_, i) => (i >= start && i < end ? buildLayer(i) : new PipelineMissingLayer())),
    );
    this.norm = rank === size - 1 ? build(Norm, config.hiddenSize, config.rmsNormEps) : null;
  }

  /** See `LanguageModel.forward`. */
  forward(inputIds: Tensor, positions: Tensor, intermediateTensors: IntermediateTensors | null, inputsEmbeds: Tensor | null): ModelOutput {
    let hiddenStates = intermediateTensors?.hidden_states ?? inputsEmbeds ?? this.embedInputIds(inputIds);
    let residual = intermediateTensors?.residual ?? null;
    const auxHiddenStates: Tensor[] = [];
    if (this.startLayer === 0) this.maybeAddHiddenState(auxHiddenStates, 0, hiddenStates, residual);
    for (const [index, layer] of [...this.layers].entries()) {
      if (layer instanceof PipelineMissingLayer) continue;
      [hiddenStates, residual] = layer.forward(positions, hiddenStates, residual);
      this.maybeAddHiddenState(auxHiddenStates, index + 1, hiddenStates, residual);
    }
    const result =
      this.norm === null ? { hidden_states: hiddenStates, residual: residual! } : this.norm.forwardWithResidual(hiddenStates, residual)[0];
    return auxHiddenStates.length > 0 ? [result, auxHiddenStates] : result;
  }

  embedInputIds(inputIds: Tensor): Tensor {
    return this.embed_tokens!.forward(inputIds); // [batch, sequence, hidden]
  }

  private maybeAddHiddenState(states: Tensor[], index: number, hiddenStates: Tensor, residual: Tensor | null): void {
    if (!this.auxHiddenStateLayers.includes(index)) return;
    states.push(residual === null ? hiddenStates : hiddenStates.add(residual));
  }
}

/** A decoder that continues text. Its head may be the embedding's weight. */
export class DecoderForCausalLM<Model extends DecoderModel = DecoderModel> extends Module implements LanguageModel {
  readonly model: Model;
  /** Null where the embedding is tied, or another rank has the head. */
  readonly lm_head: Linear | null;

  constructor({ config, pipeline, build }: ModelContext<DecoderConfig>, model: Model) {
    super();
    this.model = model;
    const hasHead = !config.tieWordEmbeddings && pipeline.rank === pipeline.size - 1;
    this.lm_head = hasHead ? build(Linear, config.hiddenSize, config.vocabSize) : null;
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
