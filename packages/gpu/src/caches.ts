import { Disposables } from '@graft/common';
import { type Device, DeviceBuffer, type Tensor, TensorArena } from '@graft/ggml';
import type { CacheMove, Graph, NodeOf, OpNode, RuntimeBinding, Value } from '@graft/graph';
import { formatDims, ops, ProgramInputError } from '@graft/graph';
import { GgmlLoweringError } from './errors.ts';

/** The element type of a KV cache. */
export type CacheType = 'F32' | 'F16';

/** The KV cache of one runtime input: `[slots, rows, heads * headDim]`, so that a row holds all heads of a token. */
export interface Cache {
  /** [width, rows * slots]. */
  readonly tensor: Tensor;
  /** Of values on a CPU: the same as `[slots, heads * headDim, rows]`, which products with few queries read. [rows, width * slots]; null elsewhere. */
  readonly turned: Tensor | null;
  readonly rows: number;
  /** Elements of a row: heads * headDim. */
  readonly width: number;
  readonly elementBytes: number;
}

interface CacheOptions {
  readonly type: CacheType;
  readonly kvSlots: number;
  /** Whether caches are read in powers of two of the least length, so that the fewest graphs serve all of them. Default: in its multiples. */
  readonly doubledLengths?: boolean;
  bindingOf(path: string, kind: string): RuntimeBinding;
}

/** A row of a slot in the cache of a runtime input. */
export interface CachePlace {
  /** e.g. `model.layers.0.self_attn.attn.keyCache`. */
  readonly path: string;
  readonly slot: number;
  readonly row: number;
}

/** The KV caches of a model, which all of its graphs share. */
export class Caches implements Disposable {
  private readonly device: Device;
  private readonly options: CacheOptions;
  private readonly resources = new Disposables();
  private readonly arena: TensorArena;
  private readonly byPath = new Map<string, { cache: Cache; buffers: DeviceBuffer[] }>();
  private readonly rowStep: number;

  constructor(device: Device, options: CacheOptions) {
    this.device = device;
    this.options = options;
    this.rowStep = device.type === 'CPU' ? 64 : 256;
    this.arena = this.resources.use(new TensorArena());
  }

  /**
   * The caches that a graph reads. Missing ones are made, filled with zeros.
   * @throws GgmlLoweringError for a runtime input of another shape than [batch, heads, rows, headDim]; GgmlCallError for a device with too little memory
   */
  of(graph: Graph): ReadonlyMap<Value, Cache> {
    const { type, kvSlots, bindingOf } = this.options;
    const turned = this.device.type === 'CPU' ? valuesOfProducts(graph) : new Set<Value>();
    const found = new Map<Value, Cache>();
    for (const { path, kind, value } of graph.runtimeInputs) {
      const binding = bindingOf(path, kind);
      if (binding.kind !== 'cache') continue;
      const known = this.byPath.get(path);
      if (known !== undefined) {
        found.set(value, known.cache);
        continue;
      }
      const [, heads, , headDim] = value.dims;
      if (value.dims.length !== 4 || heads?.isStatic !== true || headDim?.isStatic !== true)
        throw new GgmlLoweringError(
          `A cache has the dims ${formatDims(value.dims)}; expected [batch, heads, rows, headDim].`,
          `runtime input ${path}`,
        );
      const width = heads.value * headDim.value;
      const { rows } = binding;
      const tensor = this.arena.tensor(type, [width, rows * kvSlots]);
      const isTurned = turned.has(value) && width * rows * kvSlots < 2 ** 31; // its elements have indices of 32 bits
      const cache: Cache = {
        tensor,
        turned: isTurned ? this.arena.tensor(type, [rows, width * kvSlots]) : null,
        rows,
        width,
        elementBytes: type === 'F16' ? 2 : 4,
      };
      const buffers = [tensor, cache.turned].flatMap((each) =>
        each === null ? [] : [this.resources.use(DeviceBuffer.holding(this.device, [each]))],
      );
      found.set(value, cache);
      this.byPath.set(path, { cache, buffers });
    }
    return found;
  }

  get bytes(): number {
    return [...this.byPath.values()].flatMap(({ buffers }) => buffers).reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** Rows that a step reads, when its longest sequence has `used` of them: a multiple, so that few graphs serve all lengths. */
  rowsRead(used: number, rows: number): number {
    const steps = Math.ceil(used / this.rowStep);
    return Math.min(rows, this.rowStep * (this.options.doubledLengths === true ? 2 ** Math.ceil(Math.log2(Math.max(1, steps))) : steps));
  }

  /** Does nothing for a cache that no graph has read yet. */
  moveRows({ path, slot, from, count }: CacheMove): void {
    if (!this.byPath.has(path)) return;
    this.write({ path, slot, row: 0 }, this.read({ path, slot, row: from, count }));
  }

  /** A copy of rows, `[count, heads * headDim]`. @throws ProgramInputError for a place that no cache has */
  read({ path, slot, row, count }: CachePlace & { readonly count: number }): Uint8Array {
    const { cache, buffers } = this.at({ path, slot, row }, count);
    const rowBytes = cache.width * cache.elementBytes;
    return buffers[0]!.readAt(cache.tensor, (slot * cache.rows + row) * rowBytes, count * rowBytes);
  }

  /** Writes rows from `row` on, in all forms that the cache has. @throws ProgramInputError */
  write(place: CachePlace, data: Uint8Array): void {
    const known = this.byPath.get(place.path);
    const rowBytes = (known?.cache.width ?? 1) * (known?.cache.elementBytes ?? 1);
    const count = data.byteLength / rowBytes;
    const { cache, buffers } = this.at(place, count);
    const { tensor, turned, rows, width, elementBytes } = cache;
    const first = place.slot * rows + place.row;
    buffers[0]!.writeAt(tensor, first * rowBytes, data);
    if (turned === null) return;
    const column = new Uint8Array(count * elementBytes);
    for (let i = 0; i < width; i++) {
      for (let r = 0; r < count; r++)
        for (let b = 0; b < elementBytes; b++) column[r * elementBytes + b] = data[r * rowBytes + i * elementBytes + b]!;
      buffers[1]!.writeAt(turned, ((place.slot * width + i) * rows + place.row) * elementBytes, column);
    }
  }

  /** @throws ProgramInputError */
  private at({ path, slot, row }: CachePlace, count: number): { cache: Cache; buffers: DeviceBuffer[] } {
    const known = this.byPath.get(path);
    const where = `cache ${path}`;
    if (known === undefined)
      throw new ProgramInputError(`The program has no such cache; it has ${[...this.byPath.keys()].join(', ')}.`, where);
    const { kvSlots } = this.options;
    const { rows } = known.cache;
    const isThere = [slot, row, count].every((each) => Number.isSafeInteger(each) && each >= 0) && slot < kvSlots && row + count <= rows;
    if (!isThere)
      throw new ProgramInputError(
        `Rows ${row} to ${row + count} of slot ${slot} are meant; it has ${kvSlots} slots of ${rows} rows.`,
        where,
      );
    return known;
  }

  [Symbol.dispose](): void {
    this.resources[Symbol.dispose]();
  }
}

/** The caches of values that attention may read by products. */
function valuesOfProducts(graph: Graph): Set<Value> {
  const values = new Set<Value>();
  for (const node of graph.nodes) if (node.kind === 'op' && isAttention(node) && readsByProducts(node)) values.add(node.inputs.valueCache);
  return values;
}

const isAttention = (node: OpNode): node is NodeOf<typeof ops.attention> & OpNode => node.op === ops.attention;

/** Whether ggml has the attention as products and a softmax. */
export const readsByProducts = ({ inputs, attributes }: NodeOf<typeof ops.attention>): boolean =>
  inputs.sinks === null && attributes.softcap === null;
