import { NativeResource } from '@graft/common';
import { type ElementType, elementTypes, type MemoryRegion, PinnedBuffer, type TypedArrays } from '@graft/system';
import { elementCodes, elementCount, fillElements } from './element-type.ts';
import { OrtValueError } from './errors.ts';
import { type Handle, ortApi, outOf } from './ort-api.ts';

/** A tensor for ONNX Runtime: an element type, dims, and memory outside JavaScript's heap. */
export class OrtValue<T extends ElementType = ElementType> extends NativeResource {
  readonly type: T;
  readonly dims: readonly number[];
  /** @internal */
  readonly handle: Handle<'Value'>;
  private readonly region: MemoryRegion;
  private readonly byteOffset: number;
  private ownsRegion = false;
  private array: TypedArrays[T] | null = null;

  private constructor(region: MemoryRegion, type: T, dims: readonly number[], byteOffset: number) {
    super();
    const { calls, cpuMemory } = ortApi();
    const code = elementCodes[type];
    const shape = BigInt64Array.from(dims, (dim) => BigInt(dim));
    const pointer = region.pointer + BigInt(byteOffset);
    this.handle = outOf<Handle<'Value'>>((out) =>
      calls.CreateTensorWithDataAsOrtValue(cpuMemory, pointer, checkedBytes(type, dims), shape, shape.length, code, out),
    );
    this.region = region.retain();
    this.type = type;
    this.dims = [...dims];
    this.byteOffset = byteOffset;
  }

  /**
   * A tensor over existing memory, without a copy. The value keeps the memory alive.
   * @param byteOffset Offset of the first element in `region`. Values may overlap.
   * @throws OrtValueError when the dims are invalid or exceed the memory; DisposedError
   */
  static over<T extends ElementType>(region: MemoryRegion, type: T, dims: readonly number[], byteOffset = 0): OrtValue<T> {
    const needed = checkedBytes(type, dims);
    if (!Number.isSafeInteger(byteOffset) || byteOffset < 0 || byteOffset + needed > region.byteLength) {
      throw new OrtValueError({
        what: `${type} [${dims.join(', ')}] needs ${needed} bytes at offset ${byteOffset}; the memory has ${region.byteLength}.`,
      });
    }
    return new OrtValue(region, type, dims, byteOffset);
  }

  /** A tensor of zeros in new memory. */
  static allocate<T extends ElementType>(type: T, dims: readonly number[]): OrtValue<T> {
    const value = new OrtValue(PinnedBuffer.allocate(checkedBytes(type, dims)), type, dims, 0);
    value.ownsRegion = true;
    return value;
  }

  /** A tensor with a copy of `data`. */
  static from<T extends ElementType>(type: T, dims: readonly number[], data: TypedArrays[T] | readonly (number | bigint)[]): OrtValue<T> {
    const expected = elementCount(dims);
    if (data.length !== expected) {
      throw new OrtValueError({ what: `[${dims.join(', ')}] has ${expected} elements; ${data.length} were given.` });
    }
    const value = OrtValue.allocate(type, dims);
    fillElements(type, value.view, data);
    return value;
  }

  /** The elements, row-major, without a copy. The array may read as zeros after the value is disposed. */
  get view(): TypedArrays[T] {
    this.assertUsable();
    this.array ??= this.region.elements(this.type, this.byteOffset, elementCount(this.dims));
    return this.array;
  }

  protected override describe(): string {
    return `The value ${this.type} [${this.dims.join(', ')}]`;
  }

  protected override free(): void {
    this.array = null;
    ortApi().calls.ReleaseValue(this.handle);
    this.region.release();
    if (this.ownsRegion) this.region[Symbol.dispose]();
  }
}

function checkedBytes(type: ElementType, dims: readonly number[]): number {
  const bytes = elementCount(dims) * elementTypes[type].bytes;
  if (dims.every((dim) => Number.isSafeInteger(dim) && dim >= 0) && Number.isSafeInteger(bytes)) return bytes;
  throw new OrtValueError({ what: `[${dims.join(', ')}] are invalid dims.`, fix: 'use whole numbers of zero or more.' });
}
