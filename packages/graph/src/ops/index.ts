import type { Value } from '../graph.ts';
import * as attention from './attention.ts';
import type { InputRecord, Op } from './define-op.ts';
import * as elementwise from './elementwise.ts';
import * as layout from './layout.ts';
import * as linear from './linear.ts';
import * as moe from './moe.ts';
import * as norm from './norm.ts';
import * as reductions from './reductions.ts';

/** The ops of Graft; plugins define more. A backend's lowerings are a mapped type over this set: a missing one does not compile. */
export const ops = { ...elementwise, ...layout, ...linear, ...reductions, ...norm, ...attention, ...moe };

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
