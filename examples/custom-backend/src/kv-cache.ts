import type { CacheTensor } from '@graft/onnx-export';

/** One KV cache of all slots, `[slots, heads, rows, width]`. A step gets a copy of the rows in use and gives them back, longer. */
export class KvCache {
  readonly facts: CacheTensor;
  private readonly data: Float32Array;

  constructor(facts: CacheTensor, kvSlots: number) {
    this.facts = facts;
    this.data = new Float32Array(facts.dims.reduce((product, size) => product * size, kvSlots));
  }

  get bytes(): number {
    return this.data.byteLength;
  }

  /** The first `length` rows of `batch` slots from `firstSlot` on. */
  take(firstSlot: number, batch: number, length: number): { data: Float32Array; dims: number[] } {
    const [heads, rows, width] = this.facts.dims;
    const data = new Float32Array(batch * heads * length * width);
    for (let head = 0; head < batch * heads; head++) {
      const from = (firstSlot * heads + head) * rows * width;
      data.set(this.data.subarray(from, from + length * width), head * length * width);
    }
    return { data, dims: [batch, heads, length, width] };
  }

  /** The reverse of `take`. */
  put(firstSlot: number, batch: number, length: number, data: Float32Array): void {
    const [heads, rows, width] = this.facts.dims;
    for (let head = 0; head < batch * heads; head++) {
      const part = data.subarray(head * length * width, (head + 1) * length * width);
      this.data.set(part, (firstSlot * heads + head) * rows * width);
    }
  }
}
