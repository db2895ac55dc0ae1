import { type ElementType, elementCount, elementTypeFacts, fillElements, type TypedArrays } from './element-type.ts';
import { OrtValueError } from './errors.ts';
import { type Handle, type OrtApi, ortApi, outOf } from './ort-api.ts';
import { type Memory, PinnedBuffer } from './pinned.ts';
import { NativeResource } from './resource.ts';

/** A tensor for ONNX Runtime: element type, dims and memory of ours. */
export class Value<T extends ElementType = ElementType> extends NativeResource {
  readonly type: T;
  readonly dims: readonly number[];
  readonly byteLength: number;
  /** @internal */
  readonly handle: Handle<'Value'>;
  private readonly api: OrtApi;
  private readonly memory: Memory;
  /** Disposed with the value. */
  private readonly owned: PinnedBuffer | null;
  private array: TypedArrays[T] | null = null;

  private constructor(memory: Memory, type: T, dims: readonly number[], owned: PinnedBuffer | null) {
    super();
    const api = ortApi();
    const bytes = checkedBytes(type, dims);
    const shape = BigInt64Array.from(dims, (dim) => BigInt(dim));
    const { code } = elementTypeFacts(type);
    this.api = api;
    this.handle = outOf<Handle<'Value'>>((out) =>
      api.calls.CreateTensorWithDataAsOrtValue(api.cpuMemory, memory.pointer, bytes, shape, shape.length, code, out),
    );
    memory.region.retain();
    this.type = type;
    this.dims = [...dims];
    this.byteLength = bytes;
    this.memory = memory;
    this.owned = owned;
  }

  /**
   * A tensor over memory that exists, without a copy. The memory outlives the value whatever is disposed first.
   * @param byteOffset Where in `memory` the first element lies; several values may overlap.
   * @throws OrtValueError when the dims are not whole numbers or need more bytes than there are; DisposedError
   */
  static over<T extends ElementType>(memory: Memory, type: T, dims: readonly number[], byteOffset = 0): Value<T> {
    const needed = checkedBytes(type, dims);
    if (byteOffset < 0 || byteOffset + needed > memory.byteLength) {
      throw new OrtValueError({
        what: `${type} [${dims.join(', ')}] needs ${needed} bytes at offset ${byteOffset}; the memory has ${memory.byteLength}.`,
      });
    }
    return new Value(memory.slice(byteOffset, needed), type, dims, null);
  }

  /** A tensor of zeros in memory of its own, which lives as long as the value. */
  static allocate<T extends ElementType>(type: T, dims: readonly number[]): Value<T> {
    const buffer = PinnedBuffer.allocate(checkedBytes(type, dims));
    return new Value(buffer, type, dims, buffer);
  }

  /** A tensor with a copy of `data`, in memory of its own. */
  static from<T extends ElementType>(type: T, dims: readonly number[], data: TypedArrays[T] | readonly (number | bigint)[]): Value<T> {
    const expected = elementCount(dims);
    if (data.length !== expected) {
      throw new OrtValueError({ what: `[${dims.join(', ')}] has ${expected} elements; ${data.length} were given.` });
    }
    const value = Value.allocate(type, dims);
    fillElements(type, value.view, data);
    return value;
  }

  /** The elements, row-major, without a copy. Must not be read after the value is disposed (it then reads as zeros). */
  get view(): TypedArrays[T] {
    this.assertUsable();
    this.array ??= this.memory.elements(this.type, 0, elementCount(this.dims));
    return this.array;
  }

  protected override describe(): string {
    return `The value ${this.type} [${this.dims.join(', ')}]`;
  }

  protected override free(): void {
    this.array = null;
    this.api.calls.ReleaseValue(this.handle);
    this.memory.region.release();
    this.owned?.[Symbol.dispose]();
  }
}

function checkedBytes(type: ElementType, dims: readonly number[]): number {
  const bytes = elementCount(dims) * elementTypeFacts(type).bytes;
  if (dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0) && Number.isSafeInteger(bytes)) return bytes;
  throw new OrtValueError({ what: `[${dims.join(', ')}] are not the dims of a tensor.`, fix: 'use whole numbers of zero or more.' });
}
