import { noteCopy } from '@graft/common';

export { type ModelContext, type PipelineStage, upstreamContext } from './context.ts';
export { ConfigContradictionError, ConfigInvalidError, ConfigOverrideUnknownError, ImagesNotBuiltError, RopeTypeError } from './errors.ts';
export { type CamelKeys, contradiction, invalid, positive } from './families/config-keys.ts';
export { type DecoderConfig, decoderConfig, smallDecoder } from './families/config-schema.ts';
export { decoderWeights, ggufWeights, qkvRows } from './families/decoder-weights.ts';
export { architecturesOf, defineFamily, type FamilyDeclaration } from './families/define-family.ts';
export type {
  FamilyImages,
  GgufFile,
  GgufReading,
  ImageTower,
  ModelConfig,
  ModelFamily,
  ParseConfigOptions,
  RawConfig,
  ReadAs,
} from './families/family.ts';
export { GgufMetadata, ggufDecoderConfig } from './families/gguf-config.ts';
export { llama } from './families/llama.ts';
export { type LlamaConfig, type LlamaLayerConfig, type LlamaParts, llamaConfig, type MoeConfig } from './families/llama-config.ts';
export { llamaGguf } from './families/llama-gguf.ts';
export { llama4 } from './families/llama4.ts';
export type { LayerConfig, Llama4Config, Llama4VisionConfig } from './families/llama4-config.ts';
export { Attention, type AttentionOptions, ChunkedLocalAttention, type KvCacheSpec } from './layers/attention.ts';
export { Embedding } from './layers/embedding.ts';
export { FusedMoe, type FusedMoeOptions } from './layers/fused-moe.ts';
export { Linear } from './layers/linear.ts';
export { GemmaRmsNorm, HeadRmsNorm, LayerNorm, RmsNorm } from './layers/norm.ts';
export { inverseFrequencies, type RopeConfig, RotaryEmbedding } from './layers/rotary.ts';
export {
  Llama4MultiModalProjector,
  Llama4VisionAttention,
  Llama4VisionEncoder,
  Llama4VisionEncoderLayer,
  Llama4VisionMlp,
  Llama4VisionModel,
  Llama4VisionPixelShuffleMlp,
  pixelShuffle,
  UnfoldConvolution,
  VisionRotaryEmbedding,
} from './layers/vision.ts';
export {
  DecoderForCausalLM,
  DecoderLayer,
  DecoderModel,
  PipelineMissingLayer,
  type ResidualLayer,
} from './models/decoder.ts';
export { coreModels } from './models/index.ts';
export type { IntermediateTensors, LanguageModel, ModelOutput, MultimodalModel } from './models/interfaces.ts';
export {
  Gemma2DecoderLayer,
  LlamaAttention,
  LlamaDecoderLayer,
  LlamaForCausalLM,
  LlamaMlp,
  LlamaModel,
  Olmo2DecoderLayer,
  SparseMoe,
} from './models/llama.ts';
export {
  Llama4Attention,
  Llama4DecoderLayer,
  Llama4ForCausalLM,
  Llama4Model,
  Llama4Moe,
} from './models/llama4.ts';
export { Llama4ForConditionalGeneration } from './models/mllama4.ts';
export { pipelineLayers } from './models/pipeline.ts';
export {
  type Checkpoint,
  type CheckpointFormat,
  type CheckpointHeaders,
  type CheckpointTensor,
  checkpointFormats,
  openCheckpoint,
  readModelConfig,
} from './weights/checkpoint.ts';
export { type FileBytes, type OpenFile, openFileBytes } from './weights/file-bytes.ts';
export {
  type GgufPreTokenizer,
  ggufPreTokenizers,
  ggufTokenTakesSpace,
  ggufVocabularies,
  gpt2Words,
} from './weights/gguf-pre-tokenizers.ts';
export { type LoadReport, type LoadWeights, loadWeights, type StagedWeights, stageWeights } from './weights/load-weights.ts';
export { keysOfOtherRanks, type MapParameters } from './weights/map-parameters.ts';
export {
  either,
  halvesFromPairs,
  pairsFromHalves,
  perExpert,
  type Run,
  reordered,
  type Source,
  split,
  stack,
  tensor,
  transposed,
  vectors,
  WeightRules,
  type WeightRulesOptions,
} from './weights/rules.ts';
export { readSafetensorsHeader } from './weights/safetensors.ts';
export { faithfulPolicy, float32Policy, type PolicySubject, type WeightPolicy } from './weights/weight-policy.ts';
export { writeCheckpoint } from './weights/write-checkpoint.ts';

noteCopy('@graft/core-model', import.meta.url);
