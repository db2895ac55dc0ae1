import type { Module, Tensor } from '@graft/graph';

/** What one pipeline rank hands to the next, by name. vLLM: `IntermediateTensors`. */
export interface IntermediateTensors {
  hidden_states: Tensor;
  residual: Tensor;
}

/** The last rank's hidden states, or what goes to the next rank; with the residual streams that were asked for. */
export type ModelOutput = Tensor | IntermediateTensors | [Tensor | IntermediateTensors, Tensor[]];

/** A model that continues text; what the engine captures. */
export interface LanguageModel extends Module {
  /**
   * @param inputIds `[batch, sequence]`, int64.
   * @param positions `[batch, sequence]`, int64, counted from the start of the sequence.
   * @param intermediateTensors what the previous rank gave; null on the first.
   * @param inputsEmbeds `[batch, sequence, hidden]` instead of the embedded ids, or null.
   */
  forward(inputIds: Tensor, positions: Tensor, intermediateTensors: IntermediateTensors | null, inputsEmbeds: Tensor | null): ModelOutput;
  /** `[rows, hidden]` -> `[rows, vocabulary]`. */
  computeLogits(hiddenStates: Tensor): Tensor;
  /** From now on `forward` also gives the residual stream that enters these layers; the number of layers stands for the one that leaves the last. */
  setAuxHiddenStateLayers(layers: readonly number[]): void;
}

/** A language model whose prompts may have images. vLLM: `SupportsMultiModal`. */
export interface MultimodalModel extends LanguageModel {
  /** Tiles `[tiles, channels, side, side]`, normalised -> `[tiles, tokens, hidden]`. */
  embedImages(pixelValues: Tensor): Tensor;
  /**
   * @param inputIds `[batch, sequence]`, int64.
   * @param imageFeatures `[rows, hidden]`.
   * @param imageRows `[batch, sequence]`, int64: the row that stands at each place; -1 where the token itself does.
   * @returns `[batch, sequence, hidden]`, `forward`'s `inputsEmbeds`.
   */
  embedInputIds(inputIds: Tensor, imageFeatures: Tensor, imageRows: Tensor): Tensor;
}
