export { elementCodes, elementCount } from './element-type.ts';
export { Environment, type EnvironmentOptions } from './environment.ts';
export {
  OnnxBuildError,
  OrtBusyError,
  OrtCallError,
  OrtLibraryError,
  OrtNameError,
  OrtOptionsError,
  OrtPlatformError,
  OrtValueError,
} from './errors.ts';
export type { IoBinding } from './io-binding.ts';
export { libraryVersion } from './library.ts';
export { type Attribute, float, int, ints } from './onnx/attributes.ts';
export { decodeModel, encodeModel, GraphBuilder, type NodeOptions } from './onnx/builder.ts';
export type { GraphProto, ModelProto, NodeProto, TensorProto } from './onnx/onnx_pb.ts';
export type { DeclaredDim, ExternalData } from './onnx/tensors.ts';
export { OrtValue } from './ort-value.ts';
export type { RunOptions, Session } from './session.ts';
export type { SessionOptions } from './session-options.ts';
