import { DisposedError } from '@graft/common';
import type { Backend, CompileOptions, HostTensor, Program, ProgramStep, StaticBackend, StaticOptions, StaticProgram } from './backend.ts';
import type { CapturedModel } from './capture/capture.ts';
import { inlineRegions } from './compile/full.ts';
import { ParameterWithoutStorageError } from './errors.ts';
import type { Graph } from './graph.ts';
import { elementCount, float32 } from './interpreter/host-tensor.ts';
import { decomposed } from './interpreter/run.ts';
import { runStep, weightsOf } from './interpreter/run-step.ts';
import { RuntimeTensors } from './interpreter/runtime-tensors.ts';
import { InterpretedBuckets } from './interpreter/static-program.ts';
import type { Module } from './nn/module.ts';
import type { Parameter } from './nn/parameter.ts';
import { toFloat32, type WeightStorage } from './nn/storage.ts';

/**
 * Runs a captured graph node by node, a kernel an op: values in float32, sums of products in float64. Slow and obvious, the oracle for other backends.
 */
export class InterpreterBackend implements Backend, StaticBackend {
  readonly name = 'interpreter';

  /** @throws RuntimeBindingError when a runtime input cannot have what it is bound to. */
  async compile(model: CapturedModel, options: CompileOptions): Promise<Program> {
    options.signal?.throwIfAborted();
    const program = new InterpreterProgram(model, new RuntimeTensors(model, options));
    options.onProgress?.(1, 'ready');
    return program;
  }

  /** The oracle for backends of static shapes: buckets with shared weights and caches. There is nothing to keep as a recipe. */
  async open(model: Module, options: StaticOptions): Promise<StaticProgram> {
    options.signal?.throwIfAborted();
    return new InterpretedBuckets(model, options);
  }
}

class InterpreterProgram implements Program {
  readonly facts: Program['facts'];
  private readonly graph: Graph;
  private readonly runtime: RuntimeTensors;
  /** By full path, what each weight was at compilation: the program keeps it when the model gets other weights or another structure. */
  private readonly sources: ReadonlyMap<string, Pick<Parameter, 'shape' | 'storage'>>;
  /** By storage: what several layers share is converted once. */
  private readonly weights = new Map<WeightStorage, HostTensor>();
  private disposed = false;

  constructor(model: CapturedModel, runtime: RuntimeTensors) {
    this.graph = model.graph;
    decomposed(inlineRegions(model), ''); // an op that cannot run is told here, with its full path
    this.runtime = runtime;
    this.sources = new Map([...weightsOf(model)].map(([path, { shape, storage }]) => [path, { shape, storage }]));
    this.facts = { graphs: countGraphs(model.graph), weightBytes: weightBytes(model), cacheBytes: runtime.cacheBytes };
  }

  /**
   * @throws ProgramInputError that names what is missing or wrong, before anything is computed; or, from an op, an index or position out of range.
   */
  async run(step: ProgramStep): Promise<Record<string, HostTensor>> {
    if (this.disposed) throw new DisposedError('This program');
    step.signal?.throwIfAborted();
    return runStep(this.graph, this.runtime, step, (path) => this.weight(path));
  }

  [Symbol.dispose](): void {
    this.disposed = true;
    this.weights.clear();
    this.runtime[Symbol.dispose]();
  }

  private weight(path: string): HostTensor {
    const { shape, storage } = this.sources.get(path)!;
    if (storage === null) throw new ParameterWithoutStorageError(shape);
    const known = this.weights.get(storage);
    if (known !== undefined) return known;
    const tensor = float32(shape, toFloat32(storage));
    this.weights.set(storage, tensor);
    return tensor;
  }
}

/** The outer graph and each distinct region. */
function countGraphs(graph: Graph): number {
  return 1 + new Set(graph.nodes.filter((node) => node.kind === 'region').map(({ region }) => region)).size;
}

/** In float32, which is what they are kept in. */
function weightBytes(model: CapturedModel): number {
  return inlineRegions(model).weights.reduce((sum, { shape }) => sum + 4 * elementCount(shape), 0);
}
