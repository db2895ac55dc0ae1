import { type Device, type Four, GraphBuilder, type Tensor } from '@graft/ggml';
import type { Dim, GraphInput, HostTensor, ProgramStep, Sizes, Value, WeightSlot } from '@graft/graph';
import type { Cache, Caches } from './caches.ts';
import { GgmlLoweringError } from './errors.ts';
import type { Weights } from './weights.ts';

/**
 * Where the numbers of a value are: in a tensor, in several that lie next to each other along its last axis, in a weight, or in an input of the step that becomes
 * a tensor where it is used.
 */
type Place = { tensor: Tensor } | { pieces: readonly Tensor[] } | { weight: WeightSlot } | { input: string };

/** Fills a tensor before each computation. */
export interface GraphSource {
  readonly tensor: Tensor;
  fill(step: ProgramStep): Float32Array | Int32Array | Uint16Array | number;
}

export interface ContextParts {
  readonly device: Device;
  readonly weights: Weights;
  readonly caches: Caches;
  readonly cacheOf: ReadonlyMap<Value, Cache>;
  readonly sizes: Sizes;
  readonly step: ProgramStep;
}

/**
 * The ggml graph that lowerings build for the sizes of one step. Numbers are float32 in it, whatever the element type of the value: whole numbers are exact up
 * to 2^24, and a bool is 0 or 1. Only the order of a tensor's elements counts, not its shape: each lowering takes the tensor in the shape that it needs.
 */
export class LoweringContext {
  readonly builder: GraphBuilder;
  readonly weights: Weights;
  readonly step: ProgramStep;
  readonly sources: GraphSource[] = [];
  /** The module whose op is being lowered, for errors. */
  path = '';
  private readonly parts: ContextParts;
  private readonly places = new Map<Value, Place>();
  private readonly memo = new Map<string, Tensor>();
  private readonly packedForms = new Map<Tensor, Tensor>();

  constructor(parts: ContextParts) {
    this.parts = parts;
    this.builder = new GraphBuilder(parts.device);
    this.weights = parts.weights;
    this.step = parts.step;
  }

  input({ name, value }: GraphInput): void {
    this.places.set(value, { input: name });
  }

  weight(slot: WeightSlot): void {
    this.places.set(slot.value, { weight: slot });
  }

  /** Makes tensors the numbers of `value`: `[width, rows]` each if there are several. */
  set(value: Value, pieces: readonly Tensor[]): void {
    this.places.set(value, pieces.length === 1 ? { tensor: pieces[0]! } : { pieces });
  }

  /** Gives `value` the numbers of another one. */
  alias(value: Value, of: Value): void {
    this.places.set(value, this.place(of));
  }

  /** The sizes of a value in this step. */
  dims(value: Value): number[] {
    return value.dims.map((dim) => this.size(dim));
  }

  size(dim: Dim): number {
    return this.parts.sizes.evaluate(dim);
  }

  count(value: Value): number {
    return this.dims(value).reduce((product, size) => product * size, 1);
  }

  /** The numbers of a value, in rows that may lie apart. */
  tensor(value: Value): Tensor {
    const place = this.place(value);
    if ('tensor' in place) return place.tensor;
    if ('pieces' in place) {
      const tensor = place.pieces.reduce((joined, piece) => this.builder.concat(this.packed(joined), this.packed(piece), 0));
      this.set(value, [tensor]);
      return tensor;
    }
    if ('weight' in place) return this.weights.float32(place.weight);
    const count = this.count(value);
    return this.once(`numbers ${place.input}`, () => this.source('F32', [count], ({ inputs }) => floats(inputs[place.input]!)));
  }

  /** The numbers of a value without gaps, in a shape of up to four dims, the outermost first. */
  shaped(value: Value, ...dims: readonly number[]): Tensor {
    return this.builder.reshape(this.packed(this.tensor(value)), [...dims].reverse());
  }

  /** The numbers of a value in groups of `width` along its last axis: [width, groups in a row, rows]. Rows may lie apart. */
  grouped(value: Value, width: number): Tensor {
    const tensor = this.tensor(value);
    if (tensor.isContiguous || tensor.ne[0] % width !== 0) {
      const last = this.dims(value).at(-1)!;
      const row = last % width === 0 ? last : width;
      return this.shaped(value, this.count(value) / row, row / width, width);
    }
    const bytes = width * 4;
    const rows = tensor.ne[1];
    return this.builder.view(tensor, [width, tensor.ne[0] / width, rows], [4, bytes, tensor.nb[1], rows * tensor.nb[1]]);
  }

  /** The numbers of a value as [last axis, rows]. Rows may lie apart. */
  rows(value: Value): Tensor {
    const tensor = this.tensor(value);
    const width = this.dims(value).at(-1) ?? 1;
    return !tensor.isContiguous && tensor.ne[0] === width ? tensor : this.shaped(value, this.count(value) / width, width);
  }

  /** Columns `start` up to `end` of a value as [columns, rows]; a view where its rows are longer. */
  columns(value: Value, start: number, end: number): Tensor {
    const place = this.place(value);
    let first = 0;
    for (const piece of 'pieces' in place ? place.pieces : []) {
      const last = first + piece.ne[0];
      if (first <= start && end <= last) return this.columnsOf(piece, start - first, end - first);
      first = last;
    }
    return this.columnsOf(this.rows(value), start, end);
  }

  private columnsOf(rows: Tensor, start: number, end: number): Tensor {
    if (start === 0 && end === rows.ne[0]) return rows;
    const row = rows.nb[1];
    return this.builder.view(rows, [end - start, rows.ne[1]], [4, row, row * rows.ne[1], row * rows.ne[1]], start * 4);
  }

  /** The tensor without gaps. */
  packed(tensor: Tensor): Tensor {
    if (tensor.isContiguous) return tensor;
    const made = this.packedForms.get(tensor) ?? this.builder.contiguous(tensor);
    this.packedForms.set(tensor, made);
    return made;
  }

  /** Whether a node has made the value. */
  isComputed(value: Value): boolean {
    const place = this.place(value);
    return 'tensor' in place || 'pieces' in place;
  }

  /** The weight behind a value; null for a computed one. */
  weightOf(value: Value): WeightSlot | null {
    const place = this.places.get(value);
    return place !== undefined && 'weight' in place ? place.weight : null;
  }

  /** A weight in the type that it is kept in, or a computed value, with its axes reversed. */
  matrix(value: Value): Tensor {
    const slot = this.weightOf(value);
    return slot === null ? this.shaped(value, ...this.dims(value)) : this.weights.tensor(slot);
  }

  /** A weight of products in ranges of its rows, or a computed value, with their axes reversed. */
  factors(value: Value): readonly Tensor[] {
    const slot = this.weightOf(value);
    return slot === null ? [this.matrix(value)] : this.weights.factors(slot);
  }

  /** A value as indices from 0 up to, not including, `limit`. Those of an input are checked before the computation, computed ones are cut to the limit. */
  indices(value: Value, limit: number): Tensor {
    const place = this.place(value);
    const count = this.count(value);
    if (!('input' in place)) return this.builder.indices(this.shaped(value, count), limit);
    return this.once(`indices ${place.input} ${limit}`, () =>
      this.source('I32', [count], ({ inputs }) => Int32Array.from(inputs[place.input]!.data as ArrayLike<number>, Number), limit),
    );
  }

  /** The name of the step's input that a value is. @throws GgmlLoweringError for a computed value */
  inputName(value: Value, use: string): string {
    const place = this.place(value);
    if ('input' in place) return place.input;
    throw this.error(`${use} is computed by the model; it must be an input of the step.`);
  }

  cache(value: Value): Cache {
    const cache = this.parts.cacheOf.get(value);
    if (cache === undefined) throw this.error('The attention reads a cache that is bound as an input.');
    return cache;
  }

  /** See `Caches.rowsRead`. */
  rowsRead(used: number, rows: number): number {
    return this.parts.caches.rowsRead(used, rows);
  }

  /** A tensor that each step fills. */
  source(type: 'F32' | 'I32' | 'F16', sizes: readonly number[], fill: GraphSource['fill'], below?: number): Tensor {
    const tensor = this.builder.input(type, sizes, below === undefined ? {} : { below });
    this.sources.push({ tensor, fill });
    return tensor;
  }

  /** A view of a cache, in bytes from its start where each step says. */
  window(x: Tensor, sizes: readonly number[], strides: Four, fill: (step: ProgramStep) => number): Tensor {
    const tensor = this.builder.window(x, sizes, strides);
    this.sources.push({ tensor, fill });
    return tensor;
  }

  /** The tensor that the first call with this key has made. */
  once(key: string, make: () => Tensor): Tensor {
    const tensor = this.memo.get(key) ?? make();
    this.memo.set(key, tensor);
    return tensor;
  }

  constant(value: number): Tensor {
    return this.once(`constant ${value}`, () => this.builder.constant(value));
  }

  /** Elements `start` up to `end` along the middle axis of `x [inner, axis, outer]`, which is packed. */
  part(x: Tensor, start: number, end: number): Tensor {
    const [, row, plane] = x.nb;
    const strides: Four = [4, row, plane, plane * x.ne[2]];
    return this.builder.view(x, [x.ne[0], end - start, x.ne[2]], strides, start * row);
  }

  error(what: string): GgmlLoweringError {
    return new GgmlLoweringError(what, this.path);
  }

  private place(value: Value): Place {
    const place = this.places.get(value);
    if (place === undefined) throw this.error(`No node has made value ${value.id}.`);
    return place;
  }
}

function floats({ data }: HostTensor): Float32Array {
  return data instanceof Float32Array ? data : Float32Array.from(data as ArrayLike<number>, Number);
}
