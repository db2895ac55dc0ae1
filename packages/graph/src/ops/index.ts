import type { Value } from '../graph.ts';
import { attention, rotaryEmbedding, selfAttention } from './attention.ts';
import type { InputRecord, Op } from './define-op.ts';
import {
  add,
  addScalar,
  cast,
  constant,
  div,
  divScalar,
  equal,
  exp,
  floor,
  gelu,
  less,
  log,
  max,
  min,
  mul,
  mulScalar,
  sigmoid,
  siluAndMul,
  sqrt,
  sub,
  tanh,
  where,
} from './elementwise.ts';
import { concat, gatherRows, permute, replaceRows, reshape, slice, split, zerosLike } from './layout.ts';
import { embedding, linear } from './linear.ts';
import { fusedMoe } from './moe.ts';
import { addRmsNorm, layerNorm, rmsNorm } from './norm.ts';
import { matmul, reduceMax, reduceMean, reduceSum, softmax } from './reductions.ts';

/** The ops that Graft brings; plugins define more. A backend's lowerings are a mapped type over this set, so that one without a lowering does not compile. */
export const ops = {
  add,
  addRmsNorm,
  addScalar,
  attention,
  cast,
  concat,
  constant,
  div,
  divScalar,
  embedding,
  equal,
  exp,
  floor,
  fusedMoe,
  gatherRows,
  gelu,
  layerNorm,
  less,
  linear,
  log,
  matmul,
  max,
  min,
  mul,
  mulScalar,
  permute,
  reduceMax,
  reduceMean,
  reduceSum,
  replaceRows,
  reshape,
  rmsNorm,
  rotaryEmbedding,
  selfAttention,
  sigmoid,
  siluAndMul,
  slice,
  softmax,
  split,
  sqrt,
  sub,
  tanh,
  where,
  zerosLike,
} as const;

export type OpName = keyof typeof ops;

/** Attributes of an op, after validation. */
export type AttributesOf<O> = O extends Op<infer _N, infer _O, infer A, infer _R> ? A['_output'] : never;

/** Inputs of an op by name. */
export type InputsOf<O, V> = O extends Op<infer N, infer P, infer _A, infer _R> ? InputRecord<N, P, V> : never;

/** A node whose op is known: its inputs and attributes are typed. */
export interface NodeOf<O> {
  readonly inputs: InputsOf<O, Value>;
  readonly attributes: AttributesOf<O>;
  readonly outputs: readonly Value[];
  /** The module that called the op. */
  readonly path: string;
}
