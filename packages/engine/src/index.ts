import { noteCopy } from '@graft/common';

export { describeIssue, nearestNames } from '@graft/registry';
export type { BackendCandidate } from './backend-choice.ts';
export { EngineConfig, graftVersion } from './config.ts';
export { createApplicationServices } from './default-services.ts';
export { describeModel, type ModelDescription } from './describe-model.ts';
export type {
  Engine,
  EngineEvents,
  EngineInfo,
  EngineStats,
  LoadProgress,
  ModelChanges,
  Recompile,
  ReloadOptions,
  ReloadReport,
} from './engine.ts';
export {
  EngineClosedError,
  EngineConfigError,
  EngineFailureError,
  InvalidRequestError,
  NoTokenizerError,
  NothingToVerifyError,
  PluginInCodeError,
  PromptTooLongError,
  ReloadBusyError,
  ReloadConfigError,
  TokenOutOfRangeError,
  UnknownModeError,
} from './errors.ts';
export {
  type ExplainArchitectureOptions,
  type ExplainContractOptions,
  type ExplainModelOptions,
  type ExplainServicesOptions,
  type ExplainUpstreamOptions,
  explainArchitecture,
  explainContract,
  explainPatches,
  explainPlugins,
  explainServices,
  explainUpstream,
  type PatchesRecord,
} from './explain.ts';
export { type ExplainGraphsOptions, explainGraphs, type GraphsRecord } from './explain-graphs.ts';
export type { GraphKind } from './graph-kinds.ts';
export type { AspectRatio } from './image/canvas.ts';
export { type DataUrlImage, parseImageDataUrl } from './image/data-url.ts';
export {
  ImageBrokenError,
  ImageBytesError,
  ImageCountError,
  ImageFramesError,
  ImagePixelsError,
  ImagePlacesError,
  ImageSideError,
  ImageTypeError,
  ImageUrlError,
  ModelReadsNoImagesError,
} from './image/errors.ts';
export { ImageLimits, ImageProcessorConfig } from './image/image-config.ts';
export { ImageProcessor, type ProcessedImage } from './image/processor.ts';
export { type GenerateOptions, LlmEngine } from './llm-engine.ts';
export { type LoadedModel, type LoadOptions, loadModel } from './load-model.ts';
export type { LogitsProcessor, ProcessedSequence, SequenceProcessor } from './logits-processors.ts';
export { type ReloadedModel, type ReloadModelOptions, reloadModel } from './reload-model.ts';
export {
  ChatMessage,
  type FinishReason,
  GenerateRequest,
  Prompt,
  type PromptImage,
  type TokenDelta,
  type TokenLogprob,
} from './request.ts';
export { AnyShapeRunner } from './runner/any-shape-runner.ts';
export { BucketedModelRunner } from './runner/bucketed-runner.ts';
export { type Bucket, leastPadded } from './runner/buckets.ts';
export { captureLanguageModel, captureMultimodalModel, captureVisionModel, type StepShape } from './runner/capture-model.ts';
export type {
  RunnerStats,
  RunResult,
  RunRow,
  RunStep,
  WarmUpRow,
  WarmUpSummary,
} from './runner/model-runner.ts';
export { WarmUpError } from './runner/warm-up.ts';
export { SamplingParams } from './sampling-params.ts';
export { FirstComeFirstServed, type WaitingSequence } from './scheduler-policy.ts';
export type { SequenceObserver } from './sequence.ts';
export type { StartOptions } from './start-engine.ts';
export { ChatTemplateFailedError } from './text/chat-template.ts';
export type { TokenizerFormat } from './text/model-text.ts';
export type { Tokenizer } from './text/tokenizer.ts';
export {
  Backend,
  BackendChoice,
  Backends,
  BucketPolicy,
  CheckpointFormats,
  LogitsProcessors,
  Lowerings,
  ModelRunner,
  RunnerParts,
  SchedulerPolicy,
  StaticBackend,
  Tokenizers,
  WeightPolicy,
} from './tokens.ts';
export type { Difference, IdsComparison, LayerDifference } from './verify/compare-runs.ts';
export { type OpCheck, verifyOps, verifyPlatformOps } from './verify/ops.ts';
export type { VerifySubject } from './verify/subject.ts';
export { type VerifiedModel, type VerifyOptions, type VerifyRecord, verify } from './verify.ts';
export { startEngineWorker } from './worker/engine-worker.ts';

noteCopy('@graft/engine', import.meta.url);
