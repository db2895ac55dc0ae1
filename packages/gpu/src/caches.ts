import { Disposables } from '@graft/common';
import { type Device, DeviceBuffer, type Tensor, TensorArena } from '@graft/ggml';
import type { CacheMove, Graph, RuntimeBinding, Value } from '@graft/graph';
import { formatDims } from '@graft/graph';
import { GgmlLoweringError } from './errors.ts';

/** The element type of a KV cache. */
export type CacheType = 'F32' | 'F16';

/** The KV cache of one runtime input: `[slots, rows, heads * headDim]`, so that a row holds all heads of a token. */
export interface Cache {
  /** [width, rows * slots]. */
  readonly tensor: Tensor;
  readonly rows: number;
  /** Elements of a row: heads * headDim. */
  readonly width: number;
  readonly elementBytes: number;
}

/** The KV caches of a program. */
export class Caches implements Disposable {
  readonly byValue = new Map<Value, Cache>();
  private readonly resources = new Disposables();
  private readonly byPath = new Map<string, { cache: Cache; buffer: DeviceBuffer }>();

  /** @throws GgmlLoweringError for a runtime input of another shape than [batch, heads, rows, headDim] */
  constructor(
    device: Device,
    graph: Graph,
    options: { type: CacheType; kvSlots: number; bindingOf(path: string, kind: string): RuntimeBinding },
  ) {
    const { type, kvSlots, bindingOf } = options;
    const arena = this.resources.use(new TensorArena());
    for (const { path, kind, value } of graph.runtimeInputs) {
      const binding = bindingOf(path, kind);
      if (binding.kind !== 'cache') continue;
      const [, heads, , headDim] = value.dims;
      if (value.dims.length !== 4 || heads?.isStatic !== true || headDim?.isStatic !== true)
        throw new GgmlLoweringError(
          `A cache has the dims ${formatDims(value.dims)}; expected [batch, heads, rows, headDim].`,
          `runtime input ${path}`,
        );
      const width = heads.value * headDim.value;
      const { rows } = binding;
      const tensor = arena.tensor(type, [width, rows * kvSlots]);
      const buffer = this.resources.use(DeviceBuffer.holding(device, [tensor]));
      const cache: Cache = { tensor, rows, width, elementBytes: type === 'F16' ? 2 : 4 };
      this.byValue.set(value, cache);
      this.byPath.set(path, { cache, buffer });
    }
  }

  get bytes(): number {
    return [...this.byPath.values()].reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
  }

  moveRows({ path, slot, from, count }: CacheMove): void {
    const { cache, buffer } = this.byPath.get(path)!;
    const rowBytes = cache.width * cache.elementBytes;
    const start = slot * cache.rows * rowBytes;
    buffer.copyWithin(cache.tensor, start, start + from * rowBytes, count * rowBytes);
  }

  [Symbol.dispose](): void {
    this.resources[Symbol.dispose]();
  }
}
