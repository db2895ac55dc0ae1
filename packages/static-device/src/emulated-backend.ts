import { Disposables } from '@graft/common';
import { loweringsFor, type Module, type OpLowering, type StaticBackend, type StaticOptions } from '@graft/graph';
import type { OnnxLowering } from '@graft/onnx-export';
import { Environment } from '@graft/onnxruntime';
import { defaultThreads } from '@graft/system';
import { DeviceCaches } from './device-caches.ts';
import { DeviceGraphs } from './device-graphs.ts';
import { DeviceWeights } from './device-weights.ts';
import { EmulatedProgram } from './emulated-program.ts';
import { modelKey } from './model-key.ts';
import { Recipes } from './recipes.ts';

/** `compile`: a graph for each kind of region, called for each layer. `lazy`: one graph for a whole step, like ops that wait until a result is needed. */
export type StaticMode = 'compile' | 'lazy';

export interface EmulatedBackendOptions {
  mode: StaticMode;
  /** The number of threads, which all graphs share. Default: the physical cores that this process may use. */
  threads?: number;
  /** A hash of code outside Graft that `forward` calls, such as the files of plugins. Recipes always depend on the text of the model's classes. */
  codeIdentity?: string;
  /** The platform that it emulates, in errors, and whose lowerings are used. */
  platform?: string;
  /** Lowerings of plugins, which add ONNX nodes. Those for other platforms are ignored. */
  lowerings?: readonly OpLowering<never, unknown>[];
}

/**
 * Emulates a device of static shapes with ONNX Runtime on the CPU: weights are float32 inputs of the graphs, and recipes are kept on disk. It shows what is
 * compiled, when and how often, and computes correct numbers. Its speed says nothing about a real device.
 */
export class EmulatedBackend implements StaticBackend {
  readonly name = 'emulated-static-device';
  readonly movesCacheRows = true;
  private readonly options: EmulatedBackendOptions;

  constructor(options: EmulatedBackendOptions) {
    this.options = options;
  }

  /**
   * Loads ONNX Runtime at the first call.
   * @throws ParameterWithoutStorageError before the weights are loaded; StaticDeviceRecipeError when recipes cannot be written; OrtLibraryError; OrtCallError; the
   * signal's reason
   */
  async open(model: Module, options: StaticOptions): Promise<EmulatedProgram> {
    const { mode, codeIdentity = '', platform = 'static', lowerings: given = [] } = this.options;
    const { signal, kvSlots, bindRuntimeInput, recipeDirectory, onProgress } = options;
    signal?.throwIfAborted();
    const lowerings = loweringsFor<OnnxLowering>(platform, given);
    using building = new Disposables();
    const threads = options.threads ?? this.options.threads ?? defaultThreads();
    const environment = building.use(Environment.create({ sharedThreads: threads }));
    const recipes =
      recipeDirectory === null
        ? null
        : Recipes.open(
            recipeDirectory,
            modelKey(model, { bindRuntimeInput, kvSlots, mode, codeIdentity, lowerings, runtime: environment.version }),
          );
    const report = (fraction: number): void => onProgress?.(fraction, 'copying the weights to the emulated device');
    const weights = building.use(await DeviceWeights.copyOf(model, report, signal));
    const caches = building.use(new DeviceCaches(kvSlots));
    const graphs = building.use(new DeviceGraphs(environment, threads));
    const exporting = { bindRuntimeInput, lowerings, platform };
    return new EmulatedProgram({ model, mode, exporting, kvSlots, weights, caches, graphs, recipes, resources: building });
  }
}
