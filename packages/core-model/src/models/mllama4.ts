import { Module, type Tensor } from '@graft/graph';
import type { ModelContext } from '../context.ts';
import type { IntermediateTensors, LanguageModel, ModelOutput } from './interfaces.ts';
import { Llama4ForCausalLM } from './llama4.ts';

/**
 * A Llama 4 with images, of which the language model is served: its checkpoint's vision tower and projector are not loaded.
 * vLLM: `Llama4ForConditionalGeneration` with no image allowed a prompt.
 */
export class Llama4ForConditionalGeneration extends Module implements LanguageModel {
  readonly language_model: Llama4ForCausalLM;

  constructor(context: ModelContext) {
    super();
    this.language_model = this.createLanguageModel(context);
  }

  /** Makes the language model; a seam for overrides. */
  createLanguageModel(context: ModelContext): Llama4ForCausalLM {
    return new Llama4ForCausalLM(context);
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
