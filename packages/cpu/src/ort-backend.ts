import { Disposables } from '@graft/common';
import { Lowerings } from '@graft/engine';
import {
  type Backend,
  type CapturedModel,
  type CompileOptions,
  inlineRegions,
  loweringsFor,
  type OpNode,
  type Program,
} from '@graft/graph';
import { type Activations, exportGraph, hasExactKernel, loweringOf, type OnnxLowering, WeightStore } from '@graft/onnx-export';
import { Environment, type SessionOptions } from '@graft/onnxruntime';
import { inject } from '@graft/registry';
import { defaultThreads } from '@graft/system';
import { type CompiledGraph, OrtProgram } from './ort-program.ts';

const platform = 'cpu';

export interface OrtBackendOptions {
  /** Threads for a step, unless `compile` gets another number. Default: the physical cores that this process may use. */
  threads?: number;
  /** How long an idle thread spins before it sleeps, in microseconds. Default 100. Use 0 on machines with other work. */
  spinDurationUs?: number;
  /** See `ExportOptions.fuse`. */
  fuse?: boolean;
  /** Lowerings of plugins. Those for other platforms than "cpu" are ignored. */
  lowerings?: readonly OnnxLowering[];
  /** Turns ONNX Runtime's profiler on. The profile's path begins with this. */
  profilePath?: string;
}

/**
 * Compiles the whole model as one graph for ONNX Runtime on the CPU. With 4-bit weights it compiles two graphs over the same weights and caches: runs of one
 * token in each sequence round their activations to 8 bits, other runs keep them exact. Each is the fastest way for its runs.
 */
export class OrtBackend implements Backend {
  readonly name = 'onnxruntime-cpu';
  readonly movesCacheRows = true;
  private readonly options: OrtBackendOptions;
  @inject(Lowerings) private readonly added: readonly OnnxLowering[];

  constructor(options: OrtBackendOptions = {}) {
    this.options = options;
    this.added = options.lowerings ?? [];
  }

  private get lowerings(): readonly OnnxLowering[] {
    return loweringsFor(platform, this.added);
  }

  /**
   * Loads ONNX Runtime at the first call.
   * @throws LoweringError when the graph cannot be exported; OrtLibraryError; OrtCallError when ONNX Runtime refuses it
   */
  async compile(model: CapturedModel, options: CompileOptions): Promise<Program> {
    const { signal, onProgress } = options;
    signal?.throwIfAborted();
    using building = new Disposables();
    const weights = building.use(new WeightStore());
    onProgress?.(0, 'exporting the graph');
    const graph = inlineRegions(model);
    const environment = building.use(Environment.create());
    const compile = async (activations: Activations): Promise<CompiledGraph> => {
      const { bindRuntimeInput } = options;
      const { fuse = true } = this.options;
      const exported = exportGraph(graph, weights, { bindRuntimeInput, fuse, activations, lowerings: this.lowerings, platform });
      const session = await environment.createSession(exported.model, {
        ...this.sessionOptions(options, activations),
        initializers: weights.initializers,
        signal,
      });
      return { exported, session: building.use(session) };
    };
    onProgress?.(0.1, 'packing the weights for decode');
    const decode = await compile('rounded');
    onProgress?.(0.5, 'packing the weights for prefill');
    const prefill = graph.weights.some(({ source }) => hasExactKernel(source.dtype)) ? await compile('exact') : decode;
    weights.dropPages();
    onProgress?.(1, 'compiled');
    return new OrtProgram({ decode, prefill, kvSlots: options.kvSlots, weightBytes: weights.bytes, resources: building });
  }

  loweringOf(node: OpNode): OnnxLowering | null {
    return loweringOf(node, this.lowerings);
  }

  private sessionOptions({ threads }: CompileOptions, activations: Activations): SessionOptions {
    const { spinDurationUs, profilePath } = this.options;
    return {
      // Constant folding would need the weights at load, and they are not in the model.
      configEntries: { 'optimization.disable_specified_optimizers': 'ConstantFolding' },
      intraOpThreads: threads ?? this.options.threads ?? defaultThreads(),
      spinDurationUs,
      profilePath: profilePath === undefined ? undefined : `${profilePath}-${activations}`,
    };
  }
}
