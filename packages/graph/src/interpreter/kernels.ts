import { attention, rotaryEmbedding, selfAttention } from './attention.ts';
import { dense } from './dense.ts';
import { elementwise } from './elementwise.ts';
import type { Kernels } from './kernel.ts';
import { layout } from './layout.ts';
import { fusedMoe } from './moe.ts';

/** A kernel for every op: one that is missing does not compile. */
export const kernels: Kernels = { ...elementwise, ...dense, ...layout, attention, rotaryEmbedding, selfAttention, fusedMoe };
