import { Disposables } from '@graft/common';
import { bytesPerElement, partBytes, type StoragePart, toFloat32, type WeightStorage } from '@graft/graph';
import { OrtValue } from '@graft/onnxruntime';
import { type ElementType, elementTypes, MappedFile, type MemoryRegion, PinnedBuffer } from '@graft/system';

/** The dims of an initializer, and where it begins when it is a slice of a part (an expert). */
interface InitializerView {
  dims: readonly number[];
  byteOffset?: number;
}

interface Range {
  readonly region: MemoryRegion;
  readonly start: number;
  readonly byteLength: number;
}

/**
 * The memory of all weights of a program. A part in a file is mapped and not copied. A part in JavaScript's memory is copied once, because native code must
 * not point there. Tied weights share their memory.
 */
export class WeightStore implements Disposable {
  /** For the session, by initializer name. */
  readonly initializers = new Map<string, OrtValue>();
  private readonly resources = new Disposables();
  private readonly files = new Map<string, MappedFile>();
  private readonly ranges = new Map<StoragePart | WeightStorage, Range>();
  private readonly packed = new Map<StoragePart, StoragePart>();

  /** Bytes of weights that the graph reads, each counted once. */
  get bytes(): number {
    return [...this.ranges.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** Adds an initializer over the memory of a part. */
  add(name: string, part: StoragePart, view: InitializerView): void {
    const range = getOrAdd(this.ranges, part, () => {
      const { location } = part;
      if (location === null || location.offset % bytesPerElement[part.dtype] !== 0) return this.pin(part.read());
      const region = getOrAdd(this.files, location.path, () => this.resources.use(MappedFile.open(location.path)));
      return { region, start: location.offset, byteLength: partBytes(part) };
    });
    this.define(name, range, part.dtype, view);
  }

  /** Adds a float32 initializer of a parameter or buffer. Other formats are converted once. */
  addFloat32(name: string, storage: WeightStorage, view: InitializerView): void {
    const { data } = storage.parts;
    if (storage.format === 'float32' && data !== undefined) {
      this.add(name, data, view);
      return;
    }
    const range = getOrAdd(this.ranges, storage, () => {
      const { buffer, byteOffset, byteLength } = toFloat32(storage);
      return this.pin(new Uint8Array(buffer, byteOffset, byteLength));
    });
    this.define(name, range, 'float32', view);
  }

  /** Gives the pages of mapped files back after the session has packed its weights. Weights that are read in place (an embedding, a norm) are read again. */
  dropPages(): void {
    for (const file of this.files.values()) file.discard();
  }

  /** Packs a part of bytes below 16 into the 4-bit zero points of `MatMulNBits`: two in a byte along the last axis, the low nibble first. */
  packNibbles(part: StoragePart): StoragePart {
    return getOrAdd(this.packed, part, () => {
      const columns = part.dims.at(-1)!;
      const bytes = packRows(part.read(), columns);
      return { dtype: 'uint8', dims: [...part.dims.slice(0, -1), Math.ceil(columns / 2)], location: null, read: () => bytes };
    });
  }

  [Symbol.dispose](): void {
    this.initializers.clear();
    this.resources[Symbol.dispose]();
  }

  private define(name: string, { region, start }: Range, type: ElementType, { dims, byteOffset = 0 }: InitializerView): void {
    this.initializers.set(name, this.resources.use(OrtValue.over(region, type, dims, start + byteOffset)));
  }

  private pin(bytes: Uint8Array): Range {
    const region = this.resources.use(PinnedBuffer.from(bytes));
    return { region, start: 0, byteLength: region.byteLength };
  }
}

function getOrAdd<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const value = map.get(key) ?? make();
  map.set(key, value);
  return value;
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

/** The size of a tensor in bytes. */
export function tensorBytes(type: ElementType, dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, elementTypes[type].bytes);
}
