export { DeviceBuffer, type HostMemory } from './buffer.ts';
export { Device, devices } from './device.ts';
export { GgmlBusyError, GgmlCallError, GgmlLibraryError, GgmlPlatformError, GgmlTensorError, GgmlUnsupportedError } from './errors.ts';
export { Graph, type GraphInputs, GraphMemory } from './graph.ts';
export { type AttentionOptions, GraphBuilder, type RopeOptions } from './graph-builder.ts';
export { type Accelerator, findLibraries, libraryVersion, loadGgml } from './library.ts';
export { type ProbedDevice, probeDevices } from './probe.ts';
export { Stream, type StreamOptions } from './stream.ts';
export { blockOf, type Four, Tensor, TensorArena, type TensorType } from './tensor.ts';
