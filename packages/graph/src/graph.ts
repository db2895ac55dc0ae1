import type { DType, StorageFormat } from './dtype.ts';
import type { Buffer, Parameter } from './nn/parameter.ts';
import type { OpFacts } from './ops/define-op.ts';
import type { Dims } from './shape.ts';

/** A tensor that flows along an edge. Identity is the object; `id` is for names and sorting. */
export interface Value {
  readonly id: number;
  readonly dtype: DType;
  readonly dims: Dims;
}

/** A tensor that a request brings at each step, such as `inputIds`. */
export interface GraphInput {
  readonly name: string;
  readonly value: Value;
}

/** A parameter or buffer that the graph reads. In a region's graph the path is relative to the region's module. */
export interface WeightSlot {
  readonly path: string;
  readonly format: StorageFormat;
  readonly shape: readonly number[];
  /** The weight read at capture. Another layer that shares the graph binds its own weight, under the same path. */
  readonly source: Parameter | Buffer;
  readonly value: Value;
}

/** A tensor that changes per step and KV group. The runner binds it. */
export interface GraphRuntimeInput {
  readonly path: string;
  readonly kind: string;
  readonly value: Value;
}

export interface OpNode {
  readonly kind: 'op';
  readonly op: OpFacts;
  /** By the name that the op declares. An optional input that was not given is null. */
  readonly inputs: Readonly<Record<string, Value | null>>;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly outputs: readonly Value[];
  /** The module that called the op. */
  readonly path: string;
}

/** A call of a module that was captured once and is shared. */
export interface RegionNode {
  readonly kind: 'region';
  readonly path: string;
  readonly region: CapturedRegion;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
}

export type GraphNode = OpNode | RegionNode;

export interface Graph {
  readonly inputs: readonly GraphInput[];
  readonly weights: readonly WeightSlot[];
  readonly runtimeInputs: readonly GraphRuntimeInput[];
  readonly nodes: readonly GraphNode[];
  readonly outputs: readonly GraphInput[];
}

/** A region's graph and its name, the region's with a number, e.g. `decoder-layer#2`. */
export interface CapturedRegion {
  readonly name: string;
  readonly graph: Graph;
}
