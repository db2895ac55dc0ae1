import { DisposedError } from '@graft/common';
import type { HostTensor, ProgramStep, StaticFacts, StaticOptions, StaticProgram } from '../backend.ts';
import type { CapturedModel } from '../capture/capture.ts';
import { ParameterWithoutStorageError, ProgramInputError } from '../errors.ts';
import type { CapturedRegion } from '../graph.ts';
import type { Module } from '../nn/module.ts';
import type { Buffer, Parameter } from '../nn/parameter.ts';
import { toFloat32 } from '../nn/storage.ts';
import { float32 } from './host-tensor.ts';
import { runStep, weightsOf } from './run-step.ts';
import { RuntimeTensors } from './runtime-tensors.ts';

interface InterpretedBucket {
  readonly captured: CapturedModel;
  readonly runtime: RuntimeTensors;
  readonly weights: ReadonlyMap<string, Parameter | Buffer>;
}

/** A model's graphs at several buckets, run node by node over the same caches and the same copy of the weights. */
export class InterpretedBuckets implements StaticProgram {
  private readonly options: StaticOptions;
  private readonly buckets = new Map<string, InterpretedBucket>();
  private readonly caches = new Map<string, HostTensor>();
  private readonly weights = new Map<Parameter | Buffer, HostTensor>();
  private disposed = false;

  constructor(model: Module, options: StaticOptions) {
    this.options = options;
    for (const [, weight] of [...model.namedParameters(), ...model.namedBuffers()]) this.weights.set(weight, valuesOf(weight));
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
    const weights = weightsOf(captured);
    for (const weight of weights.values()) if (!this.weights.has(weight)) this.weights.set(weight, valuesOf(weight));
    this.buckets.set(bucket, { captured, runtime: new RuntimeTensors(captured, this.options, this.caches), weights });
  }

  /** @throws ProgramInputError for a bucket that was not added, and as `InterpreterBackend`'s programs. */
  async run(bucket: string, step: ProgramStep): Promise<Record<string, HostTensor>> {
    this.assertUsable();
    step.signal?.throwIfAborted();
    const found = this.buckets.get(bucket);
    if (found === undefined)
      throw new ProgramInputError(`There is no bucket "${bucket}"; there are ${[...this.buckets.keys()].join(', ')}.`, 'run');
    const { captured, runtime, weights } = found;
    return runStep(captured.graph, runtime, step, (path) => this.weights.get(weights.get(path)!)!);
  }

  updateWeights(): void {
    this.assertUsable();
    const values = [...this.weights.keys()].map(valuesOf); // all of them, before any is changed
    for (const [i, { data }] of [...this.weights.values()].entries()) (data as Float32Array).set(values[i]!.data as Float32Array);
  }

  get facts(): StaticFacts {
    const regions = new Set<CapturedRegion>();
    for (const { captured } of this.buckets.values())
      for (const node of captured.graph.nodes) if (node.kind === 'region') regions.add(node.region);
    const graphs = this.buckets.size + regions.size;
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

/** A copy, in float32. */
function valuesOf({ shape, storage }: Parameter | Buffer): HostTensor {
  if (storage === null) throw new ParameterWithoutStorageError(shape);
  return float32(shape, toFloat32(storage).slice());
}

function bytesOf(tensors: ReadonlyMap<unknown, HostTensor>): number {
  return [...tensors.values()].reduce((sum, { data }) => sum + data.byteLength, 0);
}
