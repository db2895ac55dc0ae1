import type { DType } from './dtype.ts';
import { NotCapturingError } from './errors.ts';
import type { Value } from './graph.ts';
import type { GraphBuilder } from './graph-builder.ts';
import type { Dim, Dims } from './shape.ts';

/** A tensor without data: what `forward` passes around while it is captured. */
export class SymbolicTensor {
  readonly value: Value;
  readonly builder: GraphBuilder;

  constructor(value: Value, builder: GraphBuilder) {
    this.value = value;
    this.builder = builder;
  }

  get dtype(): DType {
    return this.value.dtype;
  }

  get dims(): Dims {
    return this.value.dims;
  }

  get rank(): number {
    return this.value.dims.length;
  }

  /** @param axis counts from the end when negative. */
  dim(axis: number): Dim {
    const dim = this.value.dims.at(axis);
    if (dim === undefined) throw new NotCapturingError(`A tensor of rank ${this.rank} has no axis ${axis}.`);
    return dim;
  }
}

export type Tensor = SymbolicTensor;
