import type { Module, Tensor } from '@graft/graph';

/** The tensors that one pipeline rank passes to the next. vLLM: `IntermediateTensors`. */
export interface IntermediateTensors {
  hidden_states: Tensor;
  residual: Tensor;
}

/** The last rank's hidden states, or the tensors for the next rank; with the residual streams that `setAuxHiddenStateLayers` asked for. */
export type ModelOutput = Tensor | IntermediateTensors | [Tensor | IntermediateTensors, Tensor[]];

/** A model that continues text. */
export interface LanguageModel extends Module {
  /**
   * @param inputIds `[batch, sequence]`, int64.
   * @param positions `[batch, sequence]`, int64, counted from the start of the sequence.
   * @param intermediateTensors from the previous rank; null on the first.
   * @param inputsEmbeds `[batch, sequence, hidden]` instead of the embedded ids, or null.
   */
  forward(inputIds: Tensor, positions: Tensor, intermediateTensors: IntermediateTensors | null, inputsEmbeds: Tensor | null): ModelOutput;
  /** `[rows, hidden]` -> `[rows, vocabulary]`. */
  computeLogits(hiddenStates: Tensor): Tensor;
  /** Makes `forward` also give the residual stream that enters these layers. The number of layers means the stream after the last one. */
  setAuxHiddenStateLayers(layers: readonly number[]): void;
}

/** A language model whose prompts may have images. vLLM: `SupportsMultiModal`. */
export interface MultimodalModel extends LanguageModel {
  /** Tiles `[tiles, channels, side, side]`, normalised -> `[tiles, tokens, hidden]`. */
  embedImages(pixelValues: Tensor): Tensor;
  /**
   * @param inputIds `[batch, sequence]`, int64.
   * @param imageFeatures `[rows, hidden]`.
   * @param imageRows `[batch, sequence]`, int64: the row of `imageFeatures` at each place; -1 keeps the token.
   * @returns `[batch, sequence, hidden]`, `forward`'s `inputsEmbeds`.
   */
  embedInputIds(inputIds: Tensor, imageFeatures: Tensor, imageRows: Tensor): Tensor;
}
