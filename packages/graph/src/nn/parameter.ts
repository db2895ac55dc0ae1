import type { DType, StorageFormat } from '../dtype.ts';
import { ParameterWithoutStorageError, StorageMismatchError } from '../errors.ts';
import { memoryStorage, partsOf, toFloat32, type WeightStorage } from './storage.ts';

/**
 * A weight: a name given by the field that holds it, a logical shape that never changes, and a storage that the checkpoint fills.
 * It has its shape before it has a storage: a model can be built, patched and captured from its config alone.
 */
export class Parameter {
  readonly shape: readonly number[];
  private stored: WeightStorage | null = null;

  constructor(shape: readonly number[]) {
    this.shape = Object.freeze([...shape]);
  }

  /** The storage format, which a guard sees as the dtype; `float32` until something is loaded. */
  get dtype(): StorageFormat {
    return this.stored?.format ?? 'float32';
  }

  get storage(): WeightStorage | null {
    return this.stored;
  }

  /** Fills the parameter. @throws StorageMismatchError when the parts do not fit the shape. */
  setStorage(storage: WeightStorage): void {
    for (const [name, part] of Object.entries(partsOf(storage.format, this.shape))) {
      const actual = storage.parts[name];
      if (actual === undefined || actual.dims.join() !== part.dims.join() || actual.dtype !== part.dtype) {
        throw new StorageMismatchError(
          `A ${storage.format} storage for [${this.shape.join(', ')}] needs part "${name}" as ${part.dtype} [${part.dims.join(', ')}]` +
            ` and got ${actual === undefined ? 'none' : `${actual.dtype} [${actual.dims.join(', ')}]`}.`,
        );
      }
    }
    this.stored = storage;
  }

  /** The values in float32. @throws ParameterWithoutStorageError before the weights are loaded. */
  toFloat32(): Float32Array {
    if (this.stored === null) throw new ParameterWithoutStorageError(this.shape);
    return toFloat32(this.stored);
  }
}

/** A tensor that belongs to a module and is computed, not learned. Only a persistent one is in a checkpoint. */
export class Buffer {
  readonly shape: readonly number[];
  readonly dtype: DType = 'float32';
  readonly persistent: boolean;
  readonly storage: WeightStorage;

  /** @param values row-major, as many as the shape holds. */
  constructor(shape: readonly number[], values: Float32Array, { persistent = false }: { persistent?: boolean } = {}) {
    this.shape = Object.freeze([...shape]);
    this.persistent = persistent;
    this.storage = memoryStorage('float32', shape, { data: values });
  }

  toFloat32(): Float32Array {
    return toFloat32(this.storage);
  }
}
