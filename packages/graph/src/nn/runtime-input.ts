import type { DType } from '../dtype.ts';

/** A dimension of a runtime input: a number, `batch` (a symbol of the capture), or `rows` (always a symbol of its module, never guarded). */
export type RuntimeDim = number | 'batch' | 'rows';

/**
 * A tensor that an attention needs per step and KV group. `forward` reads it like a tensor; the runner binds it.
 * A guard sees the kind, element type and fixed dimensions, so layers with caches of different length still share a graph.
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
