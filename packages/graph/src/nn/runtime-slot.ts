import type { DType } from '../dtype.ts';

/** A dimension of a slot: a number, a symbol of the capture (`batch`), or `rows`, which stays a symbol of this slot's module and is never guarded. */
export type SlotDim = number | 'batch' | 'rows';

/**
 * What an attention needs per step and KV group. `forward` reads it like a tensor; the runner binds it.
 * A guard sees the kind, element type and fixed dimensions, so that layers with caches of different length still share a graph.
 */
export class RuntimeSlot {
  readonly kind: string;
  readonly dtype: DType;
  readonly dims: readonly SlotDim[];

  constructor(kind: string, dtype: DType, dims: readonly SlotDim[]) {
    this.kind = kind;
    this.dtype = dtype;
    this.dims = dims;
    Object.freeze(this);
  }

  toString(): string {
    return `${this.kind} ${this.dtype}[${this.dims.join(', ')}]`;
  }
}
