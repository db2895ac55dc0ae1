import type { ImageTower, LanguageModel, ModelOutput, MultimodalModel } from '@graft/core-model';
import {
  type CaptureCache,
  type CapturedModel,
  captureModel,
  Dim,
  describeResult,
  ModelOutputError,
  ops,
  SymbolicTensor,
  type Tensor,
} from '@graft/graph';
import { EngineConfigError } from '../errors.ts';
import type { RunnerParts } from './model-runner.ts';

/** The static shape of a step. */
export interface StepShape {
  batch: number;
  /** Tokens of each sequence in this step. */
  sequence: number;
}

/**
 * A language model's step as a graph, for any shape or, with `shape`, for that shape (`outputRows` is then `batch`). Inputs: `inputIds` and `positions`
 * `[batch, sequence]`, `logitsIndices [outputRows]` (rows of `[batch * sequence]`), all int64. Outputs: `logits [outputRows, vocabulary]` and, for each
 * requested layer, `auxHiddenStates.<i> [batch, sequence, hidden]`.
 */
export function captureLanguageModel(model: LanguageModel, cache: CaptureCache, shape?: StepShape): CapturedModel {
  return captureModel(model, { cache, batch: stepInputs.inputIds.dims[0], inputs: stepInputs, call: runStep, ...sizesOf(shape) });
}

/** @throws ModelOutputError if the width of a captured step's logits is not the vocabulary's. */
export function expectVocabulary(step: CapturedModel, { model, context }: Pick<RunnerParts, 'model' | 'context'>): CapturedModel {
  const { vocabSize } = context.config;
  const logits = step.graph.outputs.find(({ name }) => name === 'logits')!.value;
  if (logits.dims[1]!.equals(Dim.of(vocabSize))) return step;
  const given = `${logits.dtype}[${logits.dims.join(', ')}]`;
  throw new ModelOutputError(`${model.constructor.name}.computeLogits`, given, `float32[outputRows, ${vocabSize}], the vocabulary`);
}

/** One function for all captures, so that a frozen cache captures once for any shape; see `captureModel`. */
function runStep(model: LanguageModel, { inputIds, positions, logitsIndices }: Record<keyof typeof stepInputs, Tensor>) {
  return stepOutputs(model, model.forward(inputIds, positions, null, null), logitsIndices);
}

const [batch, sequence, outputRows] = [Dim.symbol('batch'), Dim.symbol('sequence'), Dim.symbol('outputRows')];

/** The inputs of every step of a language model. */
const stepInputs = {
  inputIds: { dtype: 'int64', dims: [batch, sequence] },
  positions: { dtype: 'int64', dims: [batch, sequence] },
  logitsIndices: { dtype: 'int64', dims: [outputRows] },
} as const;

/** The sizes of the symbols of `stepInputs` and of `features`; empty for any shape. */
function sizesOf(shape: StepShape | undefined): { sizes?: Record<string, number> } {
  if (shape === undefined) return {};
  const { batch, sequence } = shape;
  return { sizes: { batch, sequence, outputRows: batch, features: batch * sequence } };
}

/** The outputs of every step: the logits of the requested rows, and the residual streams. */
function stepOutputs(model: LanguageModel, output: ModelOutput, logitsIndices: Tensor): { logits: Tensor; auxHiddenStates: Tensor[] } {
  const [hiddenStates, auxHiddenStates] = lastRankOutput(model, output);
  const rows = ops.gatherRows({ x: hiddenStates, indices: logitsIndices }); // [outputRows, hidden]
  const logits: unknown = model.computeLogits(rows); // an override may return anything
  const isRows = logits instanceof SymbolicTensor && logits.rank === 2 && logits.dim(0).equals(rows.dim(0)) && logits.dtype === 'float32';
  if (!isRows)
    throw new ModelOutputError(`${model.constructor.name}.computeLogits`, describeResult(logits), 'float32[outputRows, vocabulary]');
  return { logits, auxHiddenStates };
}

function lastRankOutput(model: LanguageModel, output: ModelOutput): [Tensor, Tensor[]] {
  const [result, aux] = Array.isArray(output) ? output : [output, []];
  if (result instanceof SymbolicTensor) return [result, aux];
  const given: unknown = result; // an override may return anything
  if (typeof given !== 'object' || given === null || !('hidden_states' in given))
    throw new ModelOutputError(
      `${model.constructor.name}.forward`,
      describeResult(given),
      'a tensor [batch, sequence, hidden], or a list of it and the residual streams',
    );
  throw new EngineConfigError(
    'The model returned intermediate tensors, so it is not the last pipeline rank.',
    'pipeline',
    'load it with one rank.',
  );
}

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
