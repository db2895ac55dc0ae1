import { DisposedError } from '@graft/common';
import type { Backend, CompileOptions, HostTensor, Program, ProgramStep } from './backend.ts';
import type { CapturedModel } from './capture/capture.ts';
import { follow } from './capture/guard.ts';
import { inlineRegions, keysOf } from './compile/full.ts';
import { ParameterWithoutStorageError } from './errors.ts';
import type { Graph } from './graph.ts';
import { elementCount, float32 } from './interpreter/host-tensor.ts';
import { runGraph } from './interpreter/run.ts';
import { Sizes } from './interpreter/sizes.ts';
import { inputOf, SlotTensors } from './interpreter/slot-tensors.ts';
import { joinPath } from './nn/module.ts';
import type { Buffer, Parameter } from './nn/parameter.ts';
import { toFloat32, type WeightStorage } from './nn/storage.ts';

/**
 * Runs a captured graph node by node, a kernel an op: values in float32, sums of products in float64. Slow and obvious, the oracle for other backends.
 */
export class InterpreterBackend implements Backend {
  readonly name = 'interpreter';

  /** @throws SlotBindingError when a slot cannot have what it is bound to. */
  async compile(model: CapturedModel, options: CompileOptions): Promise<Program> {
    options.signal?.throwIfAborted();
    const program = new InterpreterProgram(model, new SlotTensors(model, options));
    options.onProgress?.(1, 'ready');
    return program;
  }
}

class InterpreterProgram implements Program {
  readonly facts: Program['facts'];
  private readonly graph: Graph;
  private readonly slots: SlotTensors;
  private readonly sources: ReadonlyMap<string, WeightSource>;
  /** By storage: what several layers share is converted once. */
  private readonly weights = new Map<WeightStorage, HostTensor>();
  private disposed = false;

  constructor(model: CapturedModel, slots: SlotTensors) {
    this.graph = model.graph;
    this.slots = slots;
    this.sources = weightSources(model);
    this.facts = { graphs: countGraphs(model.graph), weightBytes: weightBytes(model), cacheBytes: slots.cacheBytes };
  }

  /**
   * @throws ProgramInputError that names what is missing or wrong, before anything is computed; or, from an op, an index or position out of range.
   */
  async run(step: ProgramStep): Promise<Record<string, HostTensor>> {
    if (this.disposed) throw new DisposedError('This program');
    step.signal?.throwIfAborted();
    const { graph } = this;
    const sizes = new Sizes();
    const inputs = graph.inputs.map(({ name, value }) => {
      const tensor = inputOf(step, name);
      sizes.bindTensor(tensor, value, `input "${name}"`);
      return tensor;
    });
    const slots = this.slots.bind(step, sizes);
    const outputs = runGraph(graph, '', inputs, { sizes, slots, weight: (path) => this.weight(path), signal: step.signal });
    return Object.fromEntries(graph.outputs.map(({ name }, i) => [name, outputs[i]!]));
  }

  [Symbol.dispose](): void {
    this.disposed = true;
    this.weights.clear();
    this.slots[Symbol.dispose]();
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

interface WeightSource {
  readonly shape: readonly number[];
  readonly storage: WeightStorage | null;
}

/** By full path, what each weight is now: a program keeps it when the model gets other weights or another structure. */
function weightSources({ root, graph }: CapturedModel): Map<string, WeightSource> {
  const sources = new Map<string, WeightSource>();
  const take = (path: string, weights: Graph['weights']): void => {
    const module = follow(root, keysOf(root, path)) as object;
    for (const weight of weights) {
      const { shape, storage } = follow(module, weight.keys) as Parameter | Buffer;
      sources.set(joinPath(path, weight.path), { shape, storage });
    }
  };
  take('', graph.weights);
  for (const node of graph.nodes) if (node.kind === 'region') take(node.path, node.region.graph.weights);
  return sources;
}

/** The outer graph and each distinct region. */
function countGraphs(graph: Graph): number {
  return 1 + new Set(graph.nodes.filter((node) => node.kind === 'region').map(({ region }) => region)).size;
}

/** In float32, which is what they are kept in. */
function weightBytes(model: CapturedModel): number {
  return inlineRegions(model).weights.reduce((sum, { shape }) => sum + 4 * elementCount(shape), 0);
}
