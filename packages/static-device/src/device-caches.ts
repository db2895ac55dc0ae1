import { Disposables } from '@graft/common';
import { type CacheMove, moveRows } from '@graft/graph';
import { tensorBytes } from '@graft/onnx-export';
import { OrtValue } from '@graft/onnxruntime';
import { PinnedBuffer } from '@graft/system';
import type { BucketPlan } from './bucket-plan.ts';
import { StaticDeviceGraphError } from './errors.ts';

/** The KV caches, shared by all buckets. Each is one memory `[slots, heads, rows, width]`, and a step uses a range of it without a copy. */
export class DeviceCaches implements Disposable {
  private readonly kvSlots: number;
  private readonly resources = new Disposables();
  private readonly memories = new Map<string, { memory: PinnedBuffer; dims: readonly number[] }>();

  constructor(kvSlots: number) {
    this.kvSlots = kvSlots;
  }

  get bytes(): number {
    return [...this.memories.values()].reduce((sum, { memory }) => sum + memory.byteLength, 0);
  }

  /** Makes a cache of zeros, unless it is there. @throws StaticDeviceGraphError when another bucket has it in another shape. */
  add({ path, dims }: BucketPlan['caches'][number]): void {
    const known = this.memories.get(path);
    if (known === undefined) {
      const memory = this.resources.use(PinnedBuffer.allocate(this.kvSlots * tensorBytes('float32', dims)));
      this.memories.set(path, { memory, dims });
    } else if (known.dims.join() !== dims.join()) {
      throw new StaticDeviceGraphError(
        `A slot of the cache has the shape [${dims.join(', ')}]; in another bucket it has [${known.dims.join(', ')}].`,
        `runtime input ${path}`,
      );
    }
  }

  /** The cache of `batch` slots from `firstSlot` on. The caller disposes it. */
  view(path: string, firstSlot: number, batch: number): OrtValue {
    const { memory, dims } = this.memories.get(path)!;
    return OrtValue.over(memory, 'float32', [batch, ...dims], firstSlot * tensorBytes('float32', dims));
  }

  /** Does nothing for a cache that no bucket has yet. */
  moveRows(move: CacheMove): void {
    const known = this.memories.get(move.path);
    if (known === undefined) return;
    using slot = this.view(move.path, move.slot, 1);
    moveRows(slot.view as Float32Array, known.dims, move);
  }

  [Symbol.dispose](): void {
    this.resources[Symbol.dispose]();
  }
}
