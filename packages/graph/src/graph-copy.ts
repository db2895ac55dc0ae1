import type { OpNode, Value } from './graph.ts';
import { Dim, type Dims } from './shape.ts';

/** The same keys with other values. */
export function mapValues<A, B>(record: Readonly<Record<string, A>>, change: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]));
}

/** One change of dimensions, wherever they stand. */
export class DimChange {
  private readonly change: (dim: Dim) => Dim;
  /** Values of one shape share their list of dimensions, as most of a graph do. */
  private readonly known = new Map<Dims, Dims>();

  constructor(change: (dim: Dim) => Dim) {
    this.change = change;
  }

  dims(dims: Dims): Dims {
    const known = this.known.get(dims);
    if (known !== undefined) return known;
    const changed = dims.map(this.change);
    this.known.set(dims, changed);
    return changed;
  }

  /** The dimensions inside plain data, such as the attributes of a reshape. */
  plain(value: unknown): unknown {
    if (value instanceof Dim) return this.change(value);
    if (Array.isArray(value)) return value.map((item) => this.plain(item));
    if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
    return mapValues(value as Record<string, unknown>, (item) => this.plain(item));
  }
}

/** Copies the parts of one graph. A value must be defined before a node uses it. */
export class GraphCopy {
  private readonly copies = new Map<Value, Value>();
  private readonly changed: DimChange;
  private readonly idOf: (value: Value) => number;

  constructor(changed: DimChange, idOf: (value: Value) => number) {
    this.changed = changed;
    this.idOf = idOf;
  }

  readonly define = (value: Value): Value => {
    const copy = { id: this.idOf(value), dtype: value.dtype, dims: this.changed.dims(value.dims) };
    this.copies.set(value, copy);
    return copy;
  };

  /** Lets an existing value stand for `value`. */
  set(value: Value, copy: Value): void {
    this.copies.set(value, copy);
  }

  readonly used = (value: Value): Value => this.copies.get(value)!;

  defineAll<Named extends { readonly value: Value }>(list: readonly Named[]): Named[] {
    return list.map((one) => ({ ...one, value: this.define(one.value) }));
  }

  op(node: OpNode): OpNode {
    const inputs = mapValues(node.inputs, (value) => value && this.used(value));
    const attributes = this.changed.plain(node.attributes) as OpNode['attributes'];
    return { ...node, inputs, attributes, outputs: node.outputs.map(this.define) };
  }
}
