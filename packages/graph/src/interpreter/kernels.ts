import { attention, rotaryEmbedding } from './attention.ts';
import { dense } from './dense.ts';
import { elementwise } from './elementwise.ts';
import type { Kernels } from './kernel.ts';
import { fusedMoe } from './moe.ts';

/** A kernel for every op: one that is missing does not compile. */
export const kernels: Kernels = { ...elementwise, ...dense, attention, rotaryEmbedding, fusedMoe };
