import { Disposables } from '@graft/common';
import { Lowerings } from '@graft/engine';
import { GraphMemory, Stream } from '@graft/ggml';
import {
  type Backend,
  type CapturedModel,
  type CompileOptions,
  decomposeOps,
  inlineRegions,
  loweringsFor,
  type OpLowering,
  type OpNode,
} from '@graft/graph';
import { inject } from '@graft/registry';
import { defaultThreads } from '@graft/system';
import { Caches, type CacheType } from './caches.ts';
import { openDevice } from './device.ts';
import { GgmlProgram } from './ggml-program.ts';
import { type GgmlLowering, loweringOf } from './lowerings.ts';
import type { GpuName } from './platforms.ts';
import { Weights } from './weights.ts';

export interface GgmlBackendOptions {
  /** The platform of the GPU that computes; `platformOptions` choose among several GPUs. Default: the CPU. */
  gpu?: GpuName;
  /** Threads for a step, unless `compile` gets another number. Default: the physical cores that this process may use. */
  threads?: number;
  /** The element type of the KV caches. Default F16. */
  cacheType?: CacheType;
  /** Lowerings of plugins. Those for other platforms than "ggml" are ignored. */
  lowerings?: readonly OpLowering<never, unknown>[];
}

const platform = 'ggml';

/** Compiles the whole model as graphs of ggml: one for each shape that runs, built in some milliseconds and kept. */
export class GgmlBackend implements Backend {
  readonly name: string;
  readonly movesCacheRows = true;
  private readonly options: GgmlBackendOptions;
  @inject(Lowerings) private readonly added: readonly OpLowering<never, unknown>[];

  constructor(options: GgmlBackendOptions = {}) {
    this.options = options;
    this.name = `ggml-${options.gpu ?? 'cpu'}`;
    this.added = options.lowerings ?? [];
  }

  /**
   * Loads ggml at the first call.
   * @throws GgmlLoweringError when the graph cannot be computed by ggml; GgmlLibraryError, GgmlPlatformError; GgmlCallError for a device with too little memory
   */
  async compile(model: CapturedModel, options: CompileOptions): Promise<GgmlProgram> {
    options.signal?.throwIfAborted();
    using building = new Disposables();
    const { kvSlots, onProgress } = options;
    const graph = decomposeOps(inlineRegions(model), { isLowered: (node) => this.loweringOf(node) !== null, platform });
    const device = openDevice(this.options.gpu ?? null, options.platformOptions);
    const threads = options.threads ?? this.options.threads ?? defaultThreads();
    const bindingOf = (path: string, kind: string) => options.bindRuntimeInput(path, kind);
    const stream = building.use(new Stream(device, { threads }));
    const memory = building.use(new GraphMemory(device));
    const weights = building.use(new Weights(device));
    const caches = building.use(new Caches(device, { type: this.options.cacheType ?? 'F16', kvSlots, bindingOf }));
    onProgress?.(0, 'reading the weights');
    const loweringFor = (node: OpNode): GgmlLowering => this.loweringOf(node)!;
    const program = new GgmlProgram({
      graph,
      stream,
      memory,
      weights,
      caches,
      kvSlots,
      bindingOf,

      loweringFor,
      resources: building,
    });
    onProgress?.(1, 'compiled');
    return program;
  }

  loweringOf(node: OpNode): GgmlLowering | null {
    return loweringOf(node, loweringsFor(platform, this.added));
  }
}
