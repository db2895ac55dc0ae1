import { Module, ops, type Tensor } from '@graft/graph';
import type { ModelContext } from '../context.ts';
import { ImagesNotBuiltError } from '../errors.ts';
import type { Llama4Config } from '../families/llama4-config.ts';
import { Llama4MultiModalProjector, Llama4VisionModel } from '../layers/vision.ts';
import type { IntermediateTensors, ModelOutput, MultimodalModel } from './interfaces.ts';
import { Llama4ForCausalLM } from './llama4.ts';

/**
 * A Llama 4 with images. With a config for text alone it builds no tower and no projector, and does not load those of the checkpoint.
 * vLLM: `Llama4ForConditionalGeneration`.
 */
export class Llama4ForConditionalGeneration extends Module implements MultimodalModel {
  /** Null for text alone, and on all pipeline ranks but the first. */
  readonly vision_model: Llama4VisionModel | null;
  readonly multi_modal_projector: Llama4MultiModalProjector | null;
  readonly language_model: Llama4ForCausalLM;

  constructor(context: ModelContext<Llama4Config>) {
    super();
    const { config, pipeline, build } = context;
    const vision = pipeline.rank === 0 ? config.vision : null;
    this.vision_model = vision === null ? null : build(Llama4VisionModel, context, vision);
    this.multi_modal_projector = vision === null ? null : build(Llama4MultiModalProjector, context, vision, config.hiddenSize);
    this.language_model = build(Llama4ForCausalLM, context);
  }

  /**
   * `[tiles, 3, side, side]`, normalised -> `[tiles, tokens, hidden]`, as the language model takes them. vLLM: `embed_multimodal`.
   * @throws ImagesNotBuiltError for a model for text alone.
   */
  embedImages(pixelValues: Tensor): Tensor {
    if (this.vision_model === null || this.multi_modal_projector === null) throw new ImagesNotBuiltError(this.constructor.name);
    return this.multi_modal_projector.forward(this.vision_model.forward(pixelValues));
  }

  /** See `MultimodalModel.embedInputIds`. vLLM: `embed_input_ids`. */
  embedInputIds(inputIds: Tensor, imageFeatures: Tensor, imageRows: Tensor): Tensor {
    const embedded = this.language_model.model.embedInputIds(inputIds);
    return ops.replaceRows({ x: embedded, rows: imageFeatures, indices: imageRows });
  }

  forward(inputIds: Tensor, positions: Tensor, intermediateTensors: IntermediateTensors | null, inputsEmbeds: Tensor | null): ModelOutput {
    return this.language_model.forward(inputIds, positions, intermediateTensors, inputsEmbeds);
  }

  computeLogits(hiddenStates: Tensor): Tensor {
    return this.language_model.computeLogits(hiddenStates);
  }

  setAuxHiddenStateLayers(layers: readonly number[]): void {
    this.language_model.setAuxHiddenStateLayers(layers);
  }
}
