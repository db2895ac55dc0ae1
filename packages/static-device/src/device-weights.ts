import { setImmediate } from 'node:timers/promises';
import { Disposables } from '@graft/common';
import { Buffer, type Module, Parameter, ParameterWithoutStorageError, toFloat32 } from '@graft/graph';
import { OrtValue } from '@graft/onnxruntime';
import { PinnedBuffer } from '@graft/system';
import { StaticDeviceWeightError } from './errors.ts';
import { reachable } from './module-walk.ts';

type Weight = Parameter | Buffer;

interface Held {
  /** The first path of the weight. */
  readonly path: string;
  readonly value: OrtValue<'float32'>;
  /** The paths that graphs use for it. They must still name the same object when values are updated. */
  readonly paths: Set<string>;
}

/** The model's weights in the emulated device's memory: one float32 copy of each parameter and buffer, and one of tied ones. The memory never moves. */
export class DeviceWeights implements Disposable {
  private readonly root: Module;
  private readonly resources = new Disposables();
  private readonly held = new Map<Weight, Held>();
  private readonly byPath = new Map<string, Held>();

  private constructor(root: Module) {
    this.root = root;
  }

  /** Copies all weights of the model. @throws ParameterWithoutStorageError; the signal's reason */
  static async copyOf(root: Module, onProgress: (fraction: number) => void, signal?: AbortSignal): Promise<DeviceWeights> {
    const weights = new DeviceWeights(root);
    try {
      const all = [...reachable<Parameter>(root, Parameter), ...reachable<Buffer>(root, Buffer)];
      for (const [i, [path, source]] of all.entries()) {
        signal?.throwIfAborted();
        weights.take(path, source);
        onProgress((i + 1) / all.length);
        if (source.shape.length > 1) await setImmediate();
      }
      return weights;
    } catch (error) {
      weights[Symbol.dispose]();
      throw error;
    }
  }

  get bytes(): number {
    return [...this.held.values()].reduce((sum, { value }) => sum + 4 * value.view.length, 0);
  }

  /** The memory of a weight. @throws StaticDeviceWeightError for an unknown path or another shape */
  at(path: string, shape: readonly number[]): OrtValue<'float32'> {
    const known = this.byPath.get(path) ?? this.find(path);
    if (known.value.dims.join() !== shape.join())
      throw new StaticDeviceWeightError(
        `The weight has the shape [${known.value.dims.join(', ')}]; a graph takes [${shape.join(', ')}].`,
        path,
      );
    return known.value;
  }

  /**
   * Copies the model's current values. After an error no value is changed.
   * @throws StaticDeviceWeightError when a weight is missing or has another shape; ParameterWithoutStorageError
   */
  update(): void {
    const fresh = [...this.held.values()].map((held) => ({ held, ...this.now(held) }));
    this.held.clear();
    for (const { held, source, values } of fresh) {
      held.value.view.set(values);
      this.held.set(source, held); // the object at this path may be another one now
    }
  }

  [Symbol.dispose](): void {
    this.held.clear();
    this.byPath.clear();
    this.resources[Symbol.dispose]();
  }

  private find(path: string): Held {
    const source = weightAt(this.root, path);
    const held = this.held.get(source) ?? this.take(path, source);
    held.paths.add(path);
    this.byPath.set(path, held);
    return held;
  }

  private take(path: string, source: Weight): Held {
    const values = valuesOf(source, path);
    const memory = this.resources.use(PinnedBuffer.from(new Uint8Array(values.buffer, values.byteOffset, values.byteLength)));
    const value = this.resources.use(OrtValue.over(memory, 'float32', source.shape));
    const held: Held = { path, value, paths: new Set([path]) };
    this.held.set(source, held);
    return held;
  }

  private now({ path, paths, value }: Held): { source: Weight; values: Float32Array } {
    const source = weightAt(this.root, path);
    for (const other of paths)
      if (weightAt(this.root, other) !== source)
        throw new StaticDeviceWeightError(`The weight was tied to "${path}" and no longer is.`, other);
    if (source.shape.join() !== value.dims.join())
      throw new StaticDeviceWeightError(
        `The weight's shape changed from [${value.dims.join(', ')}] to [${source.shape.join(', ')}].`,
        path,
      );
    return { source, values: valuesOf(source, path) };
  }
}

function valuesOf(source: Weight, path: string): Float32Array {
  if (source.storage === null) throw new ParameterWithoutStorageError(source.shape, path);
  return toFloat32(source.storage);
}

function weightAt(root: Module, path: string): Weight {
  let found: unknown = root;
  for (const name of path.split('.')) found = (Object(found) as Record<string, unknown>)[name];
  if (found instanceof Parameter || found instanceof Buffer) return found;
  throw new StaticDeviceWeightError('The model has no parameter or buffer at this path.', path);
}
