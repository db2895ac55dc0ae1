export { LoweringError } from './errors.ts';
export {
  type AttentionGroup,
  type CacheTensor,
  type ExportedGraph,
  type ExportOptions,
  exportGraph,
  type StepInput,
  type StepOutput,
} from './export-graph.ts';
export { hasExactKernel } from './lower-matmul.ts';
export type { Activations, LoweringContext, Name, WeightInput } from './lowering-context.ts';
export { type Lowering, loweringOf, lowerings, type OnnxLowering } from './lowerings.ts';
export { checkStep, type Symbols, sizesOf } from './step-check.ts';
export { tensorBytes, WeightStore } from './weight-store.ts';
