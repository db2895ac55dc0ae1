import type { Llama4VisionConfig, MultimodalModel } from '@graft/core-model';
import { type CaptureCache, type CapturedModel, captureModel, Dim, ops } from '@graft/graph';
import { type StepShape, stepInputs, stepOutputs } from './capture-language-model.ts';

/**
 * What a model makes of tiles, as a graph for any number of them or, with `tiles`, for that one. Input: `pixelValues [tiles, channels, side, side]`, normalised, float32.
 * Output: `imageFeatures [tiles * tokens, hidden]`, in the order of the tiles.
 */
export function captureVisionModel(
  model: MultimodalModel,
  cache: CaptureCache,
  { numChannels, imageSize }: Llama4VisionConfig,
  tiles?: number,
): CapturedModel {
  const dims = [
    tiles === undefined ? Dim.symbol('tiles') : Dim.of(tiles),
    ...[numChannels, imageSize, imageSize].map((size) => Dim.of(size)),
  ];
  return captureModel(model, {
    cache,
    inputs: { pixelValues: { dtype: 'float32', dims } },
    call(proxy, { pixelValues }) {
      const features = proxy.embedImages(pixelValues); // [tiles, tokens, hidden]
      const rows = features.dim(0).times(features.dim(1));
      return { imageFeatures: ops.reshape({ x: features }, { dims: [rows, features.dim(2)] }) };
    },
  });
}

/**
 * `captureLanguageModel` for prompts with images: two more inputs, `imageFeatures [features, hidden]` (float32) and `imageRows [batch, sequence]` (int64),
 * which row of the features stands at each place, -1 where the token does. With `shape`, for that one, and `features` is `batch * sequence`. A prompt of text alone has the other graph, which knows of no images.
 */
export function captureMultimodalModel(model: MultimodalModel, cache: CaptureCache, hiddenSize: number, shape?: StepShape): CapturedModel {
  const inputs = stepInputs(shape);
  const features = shape === undefined ? Dim.symbol('features') : Dim.of(shape.batch * shape.sequence);
  return captureModel(model, {
    cache,
    batch: inputs.inputIds.dims[0],
    inputs: {
      ...inputs,
      imageFeatures: { dtype: 'float32', dims: [features, Dim.of(hiddenSize)] },
      imageRows: { dtype: 'int64', dims: inputs.inputIds.dims },
    },
    call(proxy, { inputIds, positions, logitsIndices, imageFeatures, imageRows }) {
      const embedded = proxy.embedInputIds(inputIds, imageFeatures, imageRows);
      return stepOutputs(proxy, proxy.forward(inputIds, positions, null, embedded), logitsIndices);
    },
  });
}
