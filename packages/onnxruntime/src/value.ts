import { type ElementType, elementCount, elementTypeFacts, elementTypeOfCode, fillElements, type TypedArrays } from './element-type.ts';
import { OrtValueError } from './errors.ts';
import { type Handle, type OrtApi, ortApi, outOf } from './ort-api.ts';
import { type Memory, PinnedBuffer } from './pinned.ts';
import { NativeResource } from './resource.ts';
import { tensorFacts } from './tensor-facts.ts';
import { TrackedViews } from './tracked-views.ts';

type Storage = { kind: 'memory'; memory: Memory; owned: PinnedBuffer | null } | { kind: 'runtime'; pointer: bigint; tracked: TrackedViews };

/** A tensor for ONNX Runtime: element type, dims and memory, which is ours (`over`, `allocate`) or the runtime's own (an output it allocated). */
export class Value<T extends ElementType = ElementType> extends NativeResource {
  readonly type: T;
  readonly dims: readonly number[];
  readonly byteLength: number;
  /** @internal */
  readonly handle: Handle<'Value'>;
  private readonly api: OrtApi;
  private readonly storage: Storage;
  private array: TypedArrays[T] | null = null;

  private constructor(api: OrtApi, handle: Handle<'Value'>, type: T, dims: readonly number[], storage: Storage) {
    super();
    this.api = api;
    this.handle = handle;
    this.type = type;
    this.dims = dims;
    this.byteLength = elementCount(dims) * elementTypeFacts(type).bytes;
    this.storage = storage;
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
    return Value.create(memory.slice(byteOffset, needed), type, dims, null);
  }

  /** A tensor of zeros in memory of its own, which lives as long as the value. */
  static allocate<T extends ElementType>(type: T, dims: readonly number[]): Value<T> {
    const buffer = PinnedBuffer.allocate(checkedBytes(type, dims));
    return Value.create(buffer, type, dims, buffer);
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

  /** Takes over a value that ONNX Runtime made. @internal */
  static adopt(api: OrtApi, handle: Handle<'Value'>): Value {
    const info = outOf<Handle<'TensorInfo'>>((out) => api.calls.GetTensorTypeAndShape(handle, out));
    const { typeCode, dims } = tensorFacts(api, info);
    api.calls.ReleaseTensorTypeAndShapeInfo(info);
    const type = elementTypeOfCode(typeCode);
    if (type === null) throw new OrtValueError({ what: `Values of ONNX element type ${typeCode} are not supported.` });
    const pointer = outOf<bigint>((out) => api.calls.GetTensorMutableData(handle, out));
    return new Value(
      api,
      handle,
      type,
      dims.map((dim) => dim ?? 0),
      { kind: 'runtime', pointer, tracked: new TrackedViews() },
    );
  }

  private static create<T extends ElementType>(memory: Memory, type: T, dims: readonly number[], owned: PinnedBuffer | null): Value<T> {
    const api = ortApi();
    const shape = BigInt64Array.from(dims, (dim) => BigInt(dim));
    const handle = outOf<Handle<'Value'>>((out) =>
      api.calls.CreateTensorWithDataAsOrtValue(
        api.cpuMemory,
        memory.pointer,
        checkedBytes(type, dims),
        shape,
        shape.length,
        elementTypeFacts(type).code,
        out,
      ),
    );
    memory.region.retain();
    return new Value(api, handle, type, [...dims], { kind: 'memory', memory, owned });
  }

  /** The elements, row-major, without a copy. Must not be read after the value is disposed (memory of ours then reads as zeros). */
  get view(): TypedArrays[T] {
    this.assertUsable();
    this.array ??= this.makeView();
    return this.array;
  }

  private makeView(): TypedArrays[T] {
    const count = elementCount(this.dims);
    const { storage } = this;
    if (storage.kind === 'memory') return storage.memory.elements(this.type, 0, count);
    const { array } = elementTypeFacts(this.type);
    return new array(storage.tracked.create(storage.pointer, this.byteLength), 0, count);
  }

  protected override describe(): string {
    return `The value ${this.type} [${this.dims.join(', ')}]`;
  }

  protected override free(): void {
    const { api, handle, storage } = this;
    this.array = null;
    if (storage.kind === 'runtime') {
      storage.tracked.whenUnused(() => api.calls.ReleaseValue(handle));
      return;
    }
    api.calls.ReleaseValue(handle);
    storage.memory.region.release();
    storage.owned?.[Symbol.dispose]();
  }
}

function checkedBytes(type: ElementType, dims: readonly number[]): number {
  const bytes = elementCount(dims) * elementTypeFacts(type).bytes;
  if (dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0) && Number.isSafeInteger(bytes)) return bytes;
  throw new OrtValueError({ what: `[${dims.join(', ')}] are not the dims of a tensor.`, fix: 'use whole numbers of zero or more.' });
}
