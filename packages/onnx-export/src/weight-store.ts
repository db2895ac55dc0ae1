import { Disposables } from '@graft/common';
import { bytesPerElement, partBytes, type StoragePart, toFloat32, type WeightStorage } from '@graft/graph';
import { type ElementType, elementTypeFacts, MappedFile, type Memory, PinnedBuffer, Value } from '@graft/onnxruntime';

/** A part of a storage as an initializer: its dims in the graph, and where it begins when it is a slice of the part (an expert). */
export interface InitializerView {
  dims: readonly number[];
  byteOffset?: number;
}

/**
 * The memory of all weights of one program. A part that lies in a file is mapped, one mapping a file, and never copied; one in JavaScript's
 * memory is copied once, since native code must not point there. The same part twice (tied weights) is one memory.
 */
export class WeightStore implements Disposable {
  /** What the session gets, by initializer name. */
  readonly initializers = new Map<string, Value>();
  private readonly resources = new Disposables();
  private readonly files = new Map<string, MappedFile>();
  private readonly memories = new Map<StoragePart, Memory>();
  private readonly converted = new Map<WeightStorage, Memory>();
  private readonly packed = new Map<StoragePart, StoragePart>();
  private counted = 0;

  /** Bytes of weights that the graph reads, each counted once. */
  get bytes(): number {
    return this.counted;
  }

  /** Adds an initializer over a part's memory under `name`. */
  add(name: string, part: StoragePart, { dims, byteOffset = 0 }: InitializerView): void {
    this.define(name, this.memoryOf(part), part.dtype, dims, byteOffset);
  }

  /** Adds a parameter or buffer in float32, converted once where it is kept in another form. */
  addFloat32(name: string, storage: WeightStorage, { dims, byteOffset = 0 }: InitializerView): void {
    const { data } = storage.parts;
    const memory = storage.format === 'float32' && data !== undefined ? this.memoryOf(data) : this.convert(storage);
    this.define(name, memory, 'float32', dims, byteOffset);
  }

  /**
   * Gives the pages of mapped files back once the session has packed its weights. What is still read in place (an embedding's rows, a norm) comes
   * from the file again.
   */
  dropPages(): void {
    for (const file of this.files.values()) file.discard();
  }

  /** A part of bytes below 16 as `MatMulNBits` wants its 4 bit zero points: two a byte along the last axis, low nibble first. */
  packNibbles(part: StoragePart): StoragePart {
    let packed = this.packed.get(part);
    if (packed === undefined) {
      const bytes = packRows(part.read(), part.dims.at(-1)!);
      packed = { dtype: 'uint8', dims: [...part.dims.slice(0, -1), Math.ceil(part.dims.at(-1)! / 2)], location: null, read: () => bytes };
      this.packed.set(part, packed);
    }
    return packed;
  }

  [Symbol.dispose](): void {
    this.initializers.clear();
    this.resources[Symbol.dispose]();
  }

  private define(name: string, memory: Memory, type: ElementType, dims: readonly number[], byteOffset: number): void {
    this.initializers.set(name, this.resources.use(Value.over(memory, type, dims, byteOffset)));
  }

  private memoryOf(part: StoragePart): Memory {
    let memory = this.memories.get(part);
    if (memory === undefined) {
      memory = this.place(part);
      this.counted += memory.byteLength;
      this.memories.set(part, memory);
    }
    return memory;
  }

  private place(part: StoragePart): Memory {
    const { location } = part;
    if (location === null || location.offset % bytesPerElement[part.dtype] !== 0) return this.pin(part.read());
    return this.file(location.path).slice(location.offset, partBytes(part));
  }

  private file(path: string): MappedFile {
    let file = this.files.get(path);
    if (file === undefined) {
      file = this.resources.use(MappedFile.open(path));
      this.files.set(path, file);
    }
    return file;
  }

  private convert(storage: WeightStorage): Memory {
    let memory = this.converted.get(storage);
    if (memory === undefined) {
      const values = toFloat32(storage);
      memory = this.pin(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      this.counted += memory.byteLength;
      this.converted.set(storage, memory);
    }
    return memory;
  }

  private pin(bytes: Uint8Array): PinnedBuffer {
    return this.resources.use(PinnedBuffer.from(bytes));
  }
}

function packRows(bytes: Uint8Array, columns: number): Uint8Array {
  const width = Math.ceil(columns / 2);
  const packed = new Uint8Array((bytes.length / columns) * width);
  for (let i = 0; i < bytes.length; i++) {
    const column = i % columns;
    packed[((i - column) / columns) * width + (column >> 1)]! |= bytes[i]! << ((column & 1) * 4);
  }
  return packed;
}

/** Bytes that a tensor of this type and these dims takes. */
export function tensorBytes(type: ElementType, dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, elementTypeFacts(type).bytes);
}
