import { Disposables } from '@graft/common';
import { type Device, DeviceBuffer, type Tensor, TensorArena, type TensorType } from '@graft/ggml';
import {
  blockTypeOf,
  type PartLocation,
  partBytes,
  type StorageFormat,
  type StoragePart,
  toFloat32,
  type WeightSlot,
  type WeightStorage,
} from '@graft/graph';
import { MappedFile } from '@graft/system';
import { GgmlLoweringError } from './errors.ts';
import { frequenciesOf } from './frequencies.ts';

type Source = WeightSlot['source'];

interface Rotation {
  /** F32 [pairs]: pair i turns by the position divided by `factors[i]`. */
  readonly factors: Tensor;
  readonly magnitude: number;
}

const plainTypes: Partial<Record<StorageFormat, TensorType>> = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' };

/**
 * The memory of all weights of a model. On a CPU, a part of a file in a layout of ggml's is mapped and not copied; a GPU gets a copy. Other layouts become float32.
 */
export class Weights implements Disposable {
  readonly device: Device;
  private readonly resources = new Disposables();
  private readonly arena: TensorArena;
  private readonly files = new Map<string, DeviceBuffer>();
  private readonly tensors = new Map<StoragePart | WeightStorage, Tensor>();
  private readonly products = new Map<StoragePart, readonly Tensor[]>();
  private readonly floats = new Map<WeightStorage, Tensor>();
  private readonly rotations = new Map<WeightStorage, Rotation | null>();
  private total = 0;

  constructor(device: Device) {
    this.device = device;
    this.arena = this.resources.use(new TensorArena());
  }

  /** Bytes of weights, each counted once. */
  get bytes(): number {
    return this.total;
  }

  /** A weight in the type that it is kept in. Axes reversed, as ggml has them. @throws GgmlLoweringError for a weight without values */
  tensor({ source, path }: WeightSlot): Tensor {
    return this.kept(storageOf(source, path), source.shape);
  }

  /** A weight of products, in ranges of rows: packed where the device is faster so, else as `tensor`. Neighbours of one type are packed as one. */
  factors({ source, path, shape }: WeightSlot): readonly Tensor[] {
    const storage = storageOf(source, path);
    const key = Object.values(storage.parts)[0]!;
    const known = this.products.get(key);
    if (known !== undefined) return known;
    const runs: WeightStorage[][] = [];
    for (const range of storage.ranges ?? [storage]) {
      const last = runs.at(-1);
      if (range.format === last?.[0]?.format && shape.length === 2) last.push(range);
      else runs.push([range]);
    }
    const made = runs.flatMap((run) => this.pack(run, shape) ?? run.map((range) => this.kept(range, shapeOfRows(range, shape))));
    this.products.set(key, made);
    return made;
  }

  /** A weight in float32. */
  float32(slot: WeightSlot): Tensor {
    const kept = this.tensor(slot);
    if (kept.type === 'F32') return kept;
    const storage = storageOf(slot.source, slot.path);
    const made = this.floats.get(storage) ?? this.copy('F32', slot.source.shape, toFloat32(storage));
    this.floats.set(storage, made);
    return made;
  }

  /** The rotation that two tables were made for; null if it has no frequencies. */
  rotationOf(cos: WeightSlot, sin: WeightSlot): Rotation | null {
    const key = storageOf(cos.source, cos.path);
    const known = this.rotations.get(key);
    if (known !== undefined) return known;
    const found = frequenciesOf(cos.source.toFloat32(), sin.source.toFloat32(), cos.shape[0]!);
    const made = found && { factors: this.copy('F32', [found.factors.length], found.factors), magnitude: found.magnitude };
    this.rotations.set(key, made);
    return made;
  }

  [Symbol.dispose](): void {
    this.resources[Symbol.dispose]();
  }

  private kept(storage: WeightStorage, shape: readonly number[]): Tensor {
    const { data, blocks } = storage.parts;
    const key = data ?? blocks ?? storage; // tied weights share their parts
    const known = this.tensors.get(key);
    if (known !== undefined) return known;
    const made = this.make(storage, shape);
    this.tensors.set(key, made);
    return made;
  }

  private make(storage: WeightStorage, shape: readonly number[]): Tensor {
    const type = typeOf(storage.format);
    if (type === null) return this.copy('F32', shape, toFloat32(storage));
    const part = (storage.parts['data'] ?? storage.parts['blocks'])!;
    const { location } = part;
    if (location === null || location.offset % 4 !== 0 || this.device.type !== 'CPU') return this.copy(type, shape, part.read());
    const tensor = this.arena.tensor(type, sizesOf(shape));
    this.fileOf(location).place(tensor, location.offset);
    this.total += tensor.bytes;
    return tensor;
  }

  private pack(run: readonly WeightStorage[], shape: readonly number[]): Tensor | null {
    const type = typeOf(run[0]!.format);
    if (type === null || shape.length < 2 || shape.length > 3 || (shape.length === 3 && shape[0] === 1)) return null;
    const rows = run.reduce((sum, range) => sum + shapeOfRows(range, shape).at(-2)!, 0);
    const tensor = this.arena.tensor(type, sizesOf(shape.with(-2, rows)));
    const isGpu = this.device.type !== 'CPU';
    if (isGpu && run.length === 1) return null;
    const buffer = isGpu ? DeviceBuffer.holding(this.device, [tensor]) : DeviceBuffer.packing(this.device, tensor);
    if (buffer === null) return null;
    const parts = run.map((range) => Object.values(range.parts)[0]!);
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + partBytes(part), 0));
    let done = 0;
    for (const part of parts) {
      bytes.set(part.read(), done);
      done += partBytes(part);
    }
    this.resources.use(buffer).write(tensor, bytes);
    this.total += tensor.bytes;
    return tensor;
  }

  private copy(type: TensorType, shape: readonly number[], data: ArrayBufferView): Tensor {
    const tensor = this.arena.tensor(type, sizesOf(shape));
    this.resources.use(DeviceBuffer.holding(this.device, [tensor])).write(tensor, data);
    this.total += tensor.bytes;
    return tensor;
  }

  private fileOf({ path, verify }: PartLocation): DeviceBuffer {
    const known = this.files.get(path);
    if (known !== undefined) return known;
    const file = this.resources.use(MappedFile.open(path));
    verify?.();
    const made = this.resources.use(DeviceBuffer.over(this.device, file));
    this.files.set(path, made);
    return made;
  }
}

/** The shape of a range of the rows of a matrix, or of several. */
function shapeOfRows({ parts }: WeightStorage, shape: readonly number[]): number[] {
  return shape.length < 2 ? [...shape] : shape.with(-2, Object.values(parts)[0]!.dims.at(shape.length - 2)!);
}

/** The type of ggml that a format is; null for the other formats. */
const typeOf = (format: StorageFormat): TensorType | null => plainTypes[format] ?? blockTypeOf(format);

function storageOf({ storage }: Source, path: string): WeightStorage {
  if (storage === null) throw new GgmlLoweringError(`The weight "${path}" has no values; load the weights before you compile.`, path);
  return storage;
}

/** Dims as ggml has them: reversed, and joined where there are more than four. */
function sizesOf(shape: readonly number[]): number[] {
  return [...shape.slice(0, -3).reduce<number[]>((joined, size) => [(joined[0] ?? 1) * size], []), ...shape.slice(-3)].reverse();
}
