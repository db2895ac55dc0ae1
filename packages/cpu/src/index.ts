export { CpuBusyError, CpuLoweringError, CpuStepError } from './errors.ts';
export {
  type AttentionGroup,
  type CacheTensor,
  type ExportedGraph,
  type ExportOptions,
  exportGraph,
  type StepInput,
  type StepOutput,
} from './export-graph.ts';
export type { WeightInput } from './lowering-context.ts';
export { type Lowering, lowerings } from './lowerings.ts';
export { OrtBackend, type OrtBackendOptions } from './ort-backend.ts';
export { OrtProgram } from './ort-program.ts';
export { cpuPlatform } from './platform.ts';
export { checkStep } from './step-check.ts';
export { defaultThreads } from './threads.ts';
export { tensorBytes, WeightStore } from './weight-store.ts';
