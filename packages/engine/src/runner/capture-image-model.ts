import type { ImageTower, LanguageModel, MultimodalModel } from '@graft/core-model';
import { type CaptureCache, type CapturedModel, captureModel, Dim, type Tensor } from '@graft/graph';
import { captureLanguageModel, type StepShape, sizesOf, stepInputs, stepOutputs } from './capture-language-model.ts';
import type { RunnerParts } from './model-runner.ts';

/** Whether the model was built with its vision tower. */
export function hasImages(model: LanguageModel, { tower }: Pick<RunnerParts, 'tower'>): model is MultimodalModel {
  return tower !== null && 'embedImages' in model;
}

/** A model's graphs for any shape: its step, then its vision tower if it has one. */
export function captureAnyShape(
  { model, tower, context }: Pick<RunnerParts, 'model' | 'tower' | 'context'>,
  cache: CaptureCache,
): [step: CapturedModel, ...tower: CapturedModel[]] {
  if (!hasImages(model, { tower })) return [captureLanguageModel(model, cache)];
  return [captureMultimodalModel(model, cache, context.config.hiddenSize), captureVisionModel(model, cache, tower!)];
}

/**
 * A model's vision tower as a graph, for any number of tiles or, with `tiles`, for that number. Input: `pixelValues [tiles, channels, side, side]`, normalised,
 * float32. Output: `imageFeatures [tiles * tokens, hidden]`, in the order of the tiles.
 */
export function captureVisionModel(
  model: MultimodalModel,
  cache: CaptureCache,
  { numChannels, imageSize }: Pick<ImageTower, 'numChannels' | 'imageSize'>,
  tiles?: number,
): CapturedModel {
  const dims = [Dim.symbol('tiles'), ...[numChannels, imageSize, imageSize].map((size) => Dim.of(size))];
  const inputs = { pixelValues: { dtype: 'float32', dims } } as const;
  return captureModel(model, { cache, inputs, call: embedTiles, ...(tiles !== undefined && { sizes: { tiles } }) });
}

function embedTiles(model: MultimodalModel, { pixelValues }: { pixelValues: Tensor }) {
  const features = model.embedImages(pixelValues); // [tiles, tokens, hidden]
  const rows = features.dim(0).times(features.dim(1));
  return { imageFeatures: features.reshape(rows, features.dim(2)) };
}

/**
 * `captureLanguageModel` for prompts with images. Two more inputs: `imageFeatures [features, hidden]` (float32), and `imageRows [batch, sequence]` (int64),
 * the row of the features in each place, -1 for an ordinary token. With `shape`, the graph is for that shape and `features` is `batch * sequence`. A prompt
 * without images uses the graph of `captureLanguageModel`.
 */
export function captureMultimodalModel(model: MultimodalModel, cache: CaptureCache, hiddenSize: number, shape?: StepShape): CapturedModel {
  const inputs = {
    ...stepInputs,
    imageFeatures: { dtype: 'float32', dims: [Dim.symbol('features'), Dim.of(hiddenSize)] },
    imageRows: { dtype: 'int64', dims: stepInputs.inputIds.dims },
  } as const;
  return captureModel(model, { cache, batch: inputs.inputIds.dims[0], inputs, call: runMixedStep, ...sizesOf(shape) });
}

type MixedStep = Record<keyof typeof stepInputs | 'imageFeatures' | 'imageRows', Tensor>;

function runMixedStep(model: MultimodalModel, { inputIds, positions, logitsIndices, imageFeatures, imageRows }: MixedStep) {
  const embedded = model.embedInputIds(inputIds, imageFeatures, imageRows);
  return stepOutputs(model, model.forward(inputIds, positions, null, embedded), logitsIndices);
}
