import { noteCopy } from '@graft/common';

export {
  type Backend,
  backendContract,
  type CacheMove,
  type CompileOptions,
  chooseLowering,
  type HostTensor,
  loweringMisfit,
  loweringsFor,
  moveRows,
  type OpLowering,
  type Program,
  type ProgramStep,
  type RuntimeBinding,
  type StaticBackend,
  type StaticFacts,
  type StaticOptions,
  type StaticProgram,
} from './backend.ts';
export { type CapturedModel, type CaptureOptions, captureModel, type InputSpec } from './capture/capture.ts';
export { CaptureCache, type CaptureEntry, type CaptureEvents, type OnRecompile, type RecompileRecord } from './capture/capture-cache.ts';
export { diffGuards } from './capture/diff-guards.ts';
export { checkGuard, type Guard, type GuardFailure, type GuardKind } from './capture/guard.ts';
export { type BucketForecast, type Forecast, predict, type RegionForecast } from './capture/predict.ts';
export { type Read, readsOf } from './capture/reads.ts';
export { type DecomposeOptions, decomposeOps } from './compile/decompose.ts';
export { inlineRegions } from './compile/full.ts';
export { type CallRuntimeInput, type CallWeight, planRegions, type RegionCall, type RegionPlan } from './compile/regional.ts';
export {
  type BlockTypeName,
  blockTypeOf,
  blockTypes,
  bytesPerElement,
  type DType,
  formatOfRanges,
  isStorageFormat,
  type PartDType,
  type RowRange,
  rangesOf,
  type StorageFormat,
  storageFormats,
} from './dtype.ts';
export {
  CaptureArrowFieldError,
  CaptureAssignmentError,
  CaptureBoundMethodError,
  CapturePrivateFieldError,
  DimCoercedError,
  ForwardError,
  GraphInvalidError,
  ModelOutputError,
  NotCapturingError,
  OpFaultyError,
  OpInputError,
  OpNotLoweredError,
  ParameterWithoutStorageError,
  ProgramBusyError,
  ProgramInputError,
  RecompileRefusedError,
  RegionNotFoundError,
  RuntimeBindingError,
  runPart,
  ShapeError,
  StorageMismatchError,
  TensorCoercedError,
} from './errors.ts';
export type { CapturedRegion, Graph, GraphInput, GraphNode, GraphRuntimeInput, OpNode, RegionNode, Value, WeightSlot } from './graph.ts';
export { Sizes } from './interpreter/sizes.ts';
export { InterpreterBackend } from './interpreter.ts';
export { Identity, ModuleList } from './nn/containers.ts';
export { joinPath, lendChild, Module, type Region } from './nn/module.ts';
export { Buffer, Parameter } from './nn/parameter.ts';
export { type RuntimeDim, RuntimeInput } from './nn/runtime-input.ts';
export {
  aligned,
  float16ToNumber,
  fromBfloat16,
  memoryStorage,
  type PartLocation,
  partBytes,
  partsOf,
  quantBlock,
  rangesStorage,
  type StoragePart,
  toFloat32,
  type WeightStorage,
} from './nn/storage.ts';
export { defineOp, type KernelContext, type OpFacts, type OpSample, type SampleInput } from './ops/define-op.ts';
export { type AttributesOf, type InputsOf, type NodeOf, type OpName, ops } from './ops/index.ts';
export { Dim, type Dims, dimsOf, formatDims, sameDims } from './shape.ts';
export { describeResult, type Operand, SymbolicTensor, type Tensor } from './tensor.ts';
export { verifyGraph } from './verify-graph.ts';

noteCopy('@graft/graph', import.meta.url);
