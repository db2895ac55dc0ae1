import type { OpFacts } from '../ops/define-op.ts';
import { ops } from '../ops/index.ts';
import { attention, rotaryEmbedding, selfAttention } from './attention.ts';
import { dense } from './dense.ts';
import { elementwise } from './elementwise.ts';
import type { Kernels } from './kernel.ts';
import { layout } from './layout.ts';
import { fusedMoe } from './moe.ts';
import { reductions } from './reductions.ts';

/** A kernel for every op of ours: one that is missing does not compile. */
const kernels: Kernels = { ...elementwise, ...dense, ...layout, ...reductions, attention, rotaryEmbedding, selfAttention, fusedMoe };

const byOp = new Map<OpFacts, OpFacts['kernel']>(
  Object.entries(kernels).map(([name, kernel]) => [ops[name as keyof Kernels], kernel as OpFacts['kernel']]),
);

/** Null for an op that is decomposed. */
export function kernelOf(op: OpFacts): OpFacts['kernel'] {
  return byOp.get(op) ?? op.kernel;
}
