import { Disposables } from '@graft/common';
import { type Backend, type CapturedModel, type CompileOptions, inlineRegions, type OpNode, type Program } from '@graft/graph';
import { type Activations, exportGraph, hasExactKernel, loweringOf, type OnnxLowering, WeightStore } from '@graft/onnx-export';
import { defaultThreads, Environment, type SessionOptions } from '@graft/onnxruntime';
import { type CompiledGraph, OrtProgram } from './ort-program.ts';

const platform = 'cpu';

export interface OrtBackendOptions {
  /** Threads of a step, unless `compile` says otherwise. Default: the physical cores that this process may use. */
  threads?: number;
  /** How long an idle thread spins before it sleeps, in microseconds. Default 100; 0 on machines with other work. */
  spinDurationUs?: number;
  /** Whether attentions take over the split and the rotation before them. Default true. */
  fuse?: boolean;
  /** Lowerings that plugins add; those for platform "cpu" are used. */
  lowerings?: readonly OnnxLowering[];
  /** For measuring: turns ONNX Runtime's profiler on; the file's name begins with this. */
  profilePath?: string;
}

/**
 * Full compilation for ONNX Runtime on the CPU: the whole model is one graph. With 4 bit weights it is compiled twice over the same weights and caches: a
 * run of many tokens keeps its activations exact, which also is the fastest way there, and a run of one token a sequence rounds them to 8 bit.
 */
export class OrtBackend implements Backend {
  readonly name = 'onnxruntime-cpu';
  private readonly options: OrtBackendOptions;
  private readonly lowerings: readonly OnnxLowering[];

  constructor(options: OrtBackendOptions = {}) {
    this.options = options;
    this.lowerings = (options.lowerings ?? []).filter((lowering) => lowering.platform === platform);
  }

  /**
   * Loads ONNX Runtime at the first call.
   * @throws LoweringError for a graph that has no form in ONNX Runtime; OrtError when the library cannot be loaded or refuses the graph.
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
      const exported = exportGraph(graph, weights, {
        bindRuntimeInput: options.bindRuntimeInput,
        fuse: this.options.fuse ?? true,
        activations,
        lowerings: this.lowerings,
        platform,
      });
      const session = await environment.createSessionAsync(exported.model, {
        ...this.sessionOptions(options, activations),
        initializers: weights.initializers,
        ...(signal !== undefined && { signal }),
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
      // Our weights are not in the model, so that a node over weights alone cannot be computed ahead: the load would fail.
      configEntries: { 'optimization.disable_specified_optimizers': 'ConstantFolding' },
      intraOpThreads: threads ?? this.options.threads ?? defaultThreads(),
      ...(spinDurationUs !== undefined && { spinDurationUs }),
      ...(profilePath !== undefined && { profilePath: `${profilePath}-${activations}` }),
    };
  }
}
