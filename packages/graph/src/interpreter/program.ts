import { DisposedError } from '@graft/common';
import {
  type CacheMove,
  type CompileOptions,
  type HostTensor,
  moveRows,
  type ProgramStep,
  type StaticFacts,
  type StaticProgram,
} from '../backend.ts';
import type { CapturedModel } from '../capture/capture.ts';
import { inlineRegions } from '../compile/full.ts';
import { ParameterWithoutStorageError, ProgramInputError } from '../errors.ts';
import type { CapturedRegion, Graph, Value } from '../graph.ts';
import type { Buffer, Parameter } from '../nn/parameter.ts';
import { toFloat32 } from '../nn/storage.ts';
import { float32 } from './host-tensor.ts';
import { decomposed, runGraph } from './run.ts';
import { inputOf, RuntimeTensors, slotsOf } from './runtime-tensors.ts';
import { Sizes } from './sizes.ts';

interface InterpretedBucket {
  readonly graph: Graph;
  readonly runtime: RuntimeTensors;
}

/** A model's graphs at several buckets, run node by node over the same caches and weights. */
export class InterpretedProgram implements StaticProgram {
  private readonly options: CompileOptions;
  private readonly buckets = new Map<string, InterpretedBucket>();
  private readonly regions = new Set<CapturedRegion>();
  private readonly caches = new Map<string, HostTensor>();
  /** In float32. They do not change when the model gets other weights or another structure. */
  private readonly weights = new Map<Parameter | Buffer, HostTensor>();
  private disposed = false;

  /** @param weights to hold from the start; `add` adds those of its bucket. @throws ParameterWithoutStorageError */
  constructor(options: CompileOptions, weights: Iterable<Parameter | Buffer> = []) {
    this.options = options;
    for (const weight of weights) this.weights.set(weight, valuesOf(weight));
  }

  has(bucket: string): boolean {
    return this.buckets.has(bucket);
  }

  hasRecipe(): boolean {
    return false;
  }

  async add(bucket: string, capture: () => CapturedModel, signal?: AbortSignal): Promise<void> {
    this.assertUsable();
    signal?.throwIfAborted();
    if (this.buckets.has(bucket)) return;
    const captured = capture();
    const graph = decomposed(inlineRegions(captured)); // an op that cannot run is an error here, with its full path
    for (const { path, source } of graph.weights) if (!this.weights.has(source)) this.weights.set(source, valuesOf(source, path));
    for (const node of captured.graph.nodes) if (node.kind === 'region') this.regions.add(node.region);
    this.buckets.set(bucket, { graph, runtime: new RuntimeTensors(graph, this.options, this.caches) });
  }

  /**
   * @throws ProgramInputError for an unknown bucket or a missing or wrong input, before any computation; from an op for an index or position out of range.
   */
  async run(bucket: string, step: ProgramStep): Promise<Record<string, HostTensor>> {
    this.assertUsable();
    step.signal?.throwIfAborted();
    const found = this.buckets.get(bucket);
    if (found === undefined)
      throw new ProgramInputError(`Bucket "${bucket}" is unknown; the buckets are ${[...this.buckets.keys()].join(', ')}.`, 'run');
    const { graph, runtime } = found;
    const [sizes, values] = [new Sizes(), new Map<Value, HostTensor>()];
    for (const { name, value } of graph.inputs) {
      const tensor = inputOf(step, name);
      sizes.bindTensor(tensor, value, `input "${name}"`);
      values.set(value, tensor);
    }
    runtime.bind(step, sizes, values);
    for (const { source, value } of graph.weights) values.set(value, this.weights.get(source)!);
    const outputs = runGraph(graph, values, sizes, step.signal);
    return Object.fromEntries(graph.outputs.map(({ name }, i) => [name, outputs[i]!]));
  }

  moveCacheRows(moves: readonly CacheMove[]): void {
    this.assertUsable();
    for (const move of moves) {
      const cache = this.caches.get(move.path);
      if (cache === undefined) continue; // no bucket has it yet
      const slot = slotsOf(cache, { firstSlot: move.slot, batch: 1 });
      moveRows(slot.data, slot.dims.slice(1), move);
    }
  }

  updateWeights(): void {
    this.assertUsable();
    const weights = [...this.weights.keys()];
    const values = weights.map((weight) => valuesOf(weight)); // read all before any changes
    for (const [i, weight] of weights.entries()) this.weights.set(weight, values[i]!);
  }

  get facts(): StaticFacts {
    const graphs = this.buckets.size + this.regions.size;
    return { graphs, optimisations: graphs, recipes: 0, weightBytes: bytesOf(this.weights), cacheBytes: bytesOf(this.caches) };
  }

  [Symbol.dispose](): void {
    this.disposed = true;
    this.buckets.clear();
    this.weights.clear();
    this.caches.clear();
  }

  private assertUsable(): void {
    if (this.disposed) throw new DisposedError('This program');
  }
}

function valuesOf({ shape, storage }: Parameter | Buffer, path?: string): HostTensor {
  if (storage === null) throw new ParameterWithoutStorageError(shape, path);
  return float32(shape, toFloat32(storage));
}

function bytesOf(tensors: ReadonlyMap<unknown, HostTensor>): number {
  return [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
}
