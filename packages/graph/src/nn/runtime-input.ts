import type { DType } from '../dtype.ts';

/** A dimension of a runtime input: a number, a symbol of the capture (`batch`), or `rows`, which stays a symbol of its module and is never guarded. */
export type RuntimeDim = number | 'batch' | 'rows';

/**
 * What an attention needs per step and KV group. `forward` reads it like a tensor; the runner binds it.
 * A guard sees the kind, element type and fixed dimensions, so that layers with caches of different length still share a graph.
 */
export class RuntimeInput {
  readonly kind: string;
  readonly dtype: DType;
  readonly dims: readonly RuntimeDim[];

  constructor(kind: string, dtype: DType, dims: readonly RuntimeDim[]) {
    this.kind = kind;
    this.dtype = dtype;
    this.dims = dims;
    Object.freeze(this);
  }

  toString(): string {
    return `${this.kind} ${this.dtype}[${this.dims.join(', ')}]`;
  }
}
