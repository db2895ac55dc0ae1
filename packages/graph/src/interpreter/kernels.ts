import type { OpFacts } from '../ops/define-op.ts';
import { ops } from '../ops/index.ts';
import { attention, rotaryEmbedding } from './attention.ts';
import { dense } from './dense.ts';
import { elementwise } from './elementwise.ts';
import type { Kernels } from './kernel.ts';
import { layout } from './layout.ts';
import { fusedMoe } from './moe.ts';
import { reductions } from './reductions.ts';

/** Graft's ops that the interpreter decomposes. */
type Decomposed = 'addRmsNorm' | 'geluTanhAndMul' | 'layerNorm' | 'selfAttention' | 'siluAndMul' | 'split' | 'swigluOaiAndMul';

/** A kernel for every other op of Graft. A missing one does not compile. */
const kernels: Omit<Kernels, Decomposed> = { ...elementwise, ...dense, ...layout, ...reductions, attention, rotaryEmbedding, fusedMoe };

const byOp = new Map<OpFacts, OpFacts['kernel']>(
  Object.entries(kernels).map(([name, kernel]) => [ops[name as keyof Kernels], kernel as OpFacts['kernel']]),
);

/** Null for an op that is decomposed. */
export function kernelOf(op: OpFacts): OpFacts['kernel'] {
  return byOp.get(op) ?? op.kernel;
}
