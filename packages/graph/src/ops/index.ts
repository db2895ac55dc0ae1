import type { OpNode } from '../graph.ts';
import { attention, rotaryEmbedding, selfAttention } from './attention.ts';
import type { Op } from './define-op.ts';
import { add, addScalar, cast, divScalar, floor, gelu, log, mul, mulScalar, sigmoid, siluAndMul } from './elementwise.ts';
import { concat, gatherRows, permute, replaceRows, reshape, slice, split, zerosLike } from './layout.ts';
import { embedding, linear } from './linear.ts';
import { fusedMoe } from './moe.ts';
import { addRmsNorm, layerNorm, rmsNorm } from './norm.ts';

/** Every op there is. A backend's lowerings are a mapped type over this set, so that one without a lowering does not compile. */
export const ops = {
  add,
  addRmsNorm,
  addScalar,
  attention,
  cast,
  concat,
  divScalar,
  embedding,
  floor,
  fusedMoe,
  gatherRows,
  gelu,
  layerNorm,
  linear,
  log,
  mul,
  mulScalar,
  permute,
  replaceRows,
  reshape,
  rmsNorm,
  rotaryEmbedding,
  selfAttention,
  sigmoid,
  siluAndMul,
  slice,
  split,
  zerosLike,
} as const;

export type OpName = keyof typeof ops;

/** Attributes of one op, after validation. */
export type AttributesOf<Name extends OpName> = (typeof ops)[Name] extends Op<infer _N, infer _O, infer A, infer _R> ? A['_output'] : never;

/** Input names of one op; optional ones map to null when they are not given. */
export type InputsOf<Name extends OpName, V> =
  (typeof ops)[Name] extends Op<infer N, infer O, infer _A, infer _R>
    ? { readonly [K in N[number]]: V } & { readonly [K in O[number]]: V | null }
    : never;

/** A node whose op is known: its attributes are typed. */
export type NodeOf<Name extends OpName> = Omit<OpNode, 'op' | 'attributes'> & {
  readonly op: Name;
  readonly attributes: AttributesOf<Name>;
};
