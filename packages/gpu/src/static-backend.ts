import { setImmediate } from 'node:timers/promises';
import { Disposables, DisposedError } from '@graft/common';
import { type Device, GraphMemory, Stream } from '@graft/ggml';
import {
  type CacheMove,
  type CapturedModel,
  decomposeOps,
  type Graph,
  type HostTensor,
  inlineRegions,
  loweringsFor,
  type Module,
  type OpLowering,
  type OpNode,
  ProgramBusyError,
  ProgramInputError,
  type ProgramStep,
  type StaticBackend,
  type StaticFacts,
  type StaticOptions,
  type StaticProgram,
} from '@graft/graph';
import { defaultThreads } from '@graft/system';
import { Caches, type CacheType } from './caches.ts';
import { openDevice } from './device.ts';
import { GgmlProgram } from './ggml-program.ts';
import { type GgmlLowering, loweringOf } from './lowerings.ts';
import { expectRoom } from './memory-fit.ts';
import type { GpuName } from './platforms.ts';
import { Weights } from './weights.ts';

export interface GgmlStaticBackendOptions {
  /** The platform of the GPU that computes; `platformOptions` choose among several GPUs. Default: the CPU. */
  gpu?: GpuName;
  /** The element type of the KV caches. Default F16. */
  cacheType?: CacheType;
  /** Lowerings of plugins. Those for other platforms than "ggml" are ignored. */
  lowerings?: readonly OpLowering<never, unknown>[];
}

const platform = 'ggml';

/**
 * Compiles a model for static shapes on ggml: each bucket is one graph of the whole model for each length of the caches, in 256 times a power of two. All are
 * built when the bucket is added, and kept; they share weights, caches and the memory of activations.
 */
export class GgmlStaticBackend implements StaticBackend {
  readonly name: string;
  readonly movesCacheRows = true;
  private readonly options: GgmlStaticBackendOptions;

  constructor(options: GgmlStaticBackendOptions = {}) {
    this.options = options;
    this.name = `ggml-${options.gpu ?? 'cpu'}`;
  }

  /**
   * Loads ggml at the first call.
   * @throws GpuMemoryError when weights and caches do not fit; GpuOptionError; GgmlLibraryError, GgmlPlatformError; GgmlCallError
   */
  async open(model: Module, options: StaticOptions): Promise<StaticProgram> {
    options.signal?.throwIfAborted();
    const { gpu, cacheType = 'F16', lowerings: added = [] } = this.options;
    const device = openDevice(gpu ?? null, options.platformOptions);
    if (device.type !== 'CPU') expectRoom(model, device, cacheType, options);
    using building = new Disposables();
    const stream = building.use(new Stream(device, { threads: options.threads ?? defaultThreads() }));
    const memory = building.use(new GraphMemory(device));
    const caches = building.use(
      new Caches(device, { type: cacheType, kvSlots: options.kvSlots, bindingOf: options.bindRuntimeInput, doubledLengths: true }),
    );
    const lowerings = loweringsFor<GgmlLowering>(platform, added);
    options.onProgress?.(
      0,
      `opening ${device.name} (${device.description}); its first graph takes a while where kernels are compiled for it`,
    );
    return new GgmlStaticProgram({ device, stream, memory, caches, lowerings, options, resources: building });
  }
}

interface ProgramParts {
  readonly device: Device;
  readonly stream: Stream;
  readonly memory: GraphMemory;
  readonly caches: Caches;
  readonly lowerings: readonly GgmlLowering[];
  readonly options: StaticOptions;
  /** The program takes them over and disposes them last. */
  readonly resources: Disposables;
}

/** A model at its buckets on one device of ggml. */
class GgmlStaticProgram implements StaticProgram {
  private readonly parts: ProgramParts;
  private readonly resources: Disposables;
  private readonly graphs = new Map<string, Graph>();
  private readonly buckets = new Map<string, GgmlProgram>();
  private weights: Weights;
  private running: Promise<unknown> | null = null;
  private disposed = false;

  constructor(parts: ProgramParts) {
    this.parts = parts;
    this.weights = new Weights(parts.device);
    this.resources = parts.resources.move();
  }

  get facts(): StaticFacts {
    const built = [...this.buckets.values()].reduce((sum, bucket) => sum + bucket.builds, 0);
    return { graphs: built, optimisations: built, recipes: 0, weightBytes: this.weights.bytes, cacheBytes: this.parts.caches.bytes };
  }

  has(bucket: string): boolean {
    return this.buckets.has(bucket);
  }

  hasRecipe(): boolean {
    return false;
  }

  /** Does nothing for a known bucket. @throws GgmlLoweringError, GgmlCallError, ParameterWithoutStorageError; DisposedError; the signal's reason */
  async add(bucket: string, capture: () => CapturedModel, signal?: AbortSignal): Promise<void> {
    this.assertUsable();
    signal?.throwIfAborted();
    if (this.buckets.has(bucket)) return;
    await setImmediate(); // graphs are built on this thread
    const { lowerings } = this.parts;
    const graph = decomposeOps(inlineRegions(capture()), { isLowered: (node) => loweringOf(node, lowerings) !== null, platform });
    this.buckets.set(bucket, this.compile(graph));
    this.graphs.set(bucket, graph);
  }

  /**
   * After an abort the caches of these slots are partly written.
   * @throws ProgramInputError before anything runs; ProgramBusyError; DisposedError; GgmlCallError; the signal's reason
   */
  async run(bucket: string, step: ProgramStep): Promise<Record<string, HostTensor>> {
    this.assertUsable();
    if (this.running !== null) throw new ProgramBusyError();
    const program = this.buckets.get(bucket);
    if (program === undefined) {
      const known = [...this.buckets.keys()].join(', ') || 'none';
      throw new ProgramInputError(`The program has no bucket "${bucket}"; it has ${known}.`, 'run', 'add the bucket before you run it.');
    }
    program.buildAll(); // a bucket that was added later may have moved the memory
    this.running = program.run(step);
    try {
      return (await this.running) as Record<string, HostTensor>;
    } finally {
      this.running = null;
    }
  }

  /** See `StaticProgram`. @throws ProgramBusyError during a step; DisposedError */
  moveCacheRows(moves: readonly CacheMove[]): void {
    this.assertUsable();
    if (this.running !== null) throw new ProgramBusyError();
    for (const move of moves) this.parts.caches.moveRows(move);
  }

  /** Frees the old weights, then copies the new ones to the device and builds the graphs over them. @throws ProgramBusyError during a step; DisposedError */
  updateWeights(): void {
    this.assertUsable();
    if (this.running !== null) throw new ProgramBusyError();
    for (const program of this.buckets.values()) program[Symbol.dispose]();
    this.weights[Symbol.dispose]();
    this.weights = new Weights(this.parts.device);
    for (const [bucket, graph] of this.graphs) this.buckets.set(bucket, this.compile(graph));
  }

  /** May be called twice, and during a run, which then rejects. Native memory is freed when the run ends. */
  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.disposed = true;
    for (const program of this.buckets.values()) program[Symbol.dispose]();
    this.weights[Symbol.dispose]();
    this.resources[Symbol.dispose]();
  }

  private compile(graph: Graph): GgmlProgram {
    const { stream, memory, caches, lowerings, options } = this.parts;
    const { kvSlots, bindRuntimeInput } = options;
    const program = new GgmlProgram({
      graph,
      stream,
      memory,
      weights: this.weights,
      caches,
      kvSlots,
      bindingOf: bindRuntimeInput,
      loweringFor: (node: OpNode) => loweringOf(node, lowerings)!,
      resources: new Disposables(),
      maxGraphs: Number.POSITIVE_INFINITY,
    });
    program.buildAll();
    return program;
  }

  private assertUsable(): void {
    if (this.disposed) throw new DisposedError('The program');
  }
}
