import { type Disposables, DisposedError, GraftError } from '@graft/common';
import {
  type CacheMove,
  type CapturedModel,
  type HostTensor,
  type Module,
  ProgramBusyError,
  ProgramInputError,
  type ProgramStep,
  type StaticFacts,
  type StaticProgram,
} from '@graft/graph';
import { type MemoryRegion, PinnedBuffer, returnFreeMemory } from '@graft/system';
import type { BucketPlan } from './bucket-plan.ts';
import { DeviceBucket } from './device-bucket.ts';
import type { DeviceCaches } from './device-caches.ts';
import type { DeviceGraphs } from './device-graphs.ts';
import type { DeviceWeights } from './device-weights.ts';
import type { StaticMode } from './emulated-backend.ts';
import { StaticDeviceGraphError } from './errors.ts';
import { type ExportParts, planBucket } from './make-plan.ts';
import type { Recipe, Recipes } from './recipes.ts';

export interface EmulatedProgramParts {
  model: Module;
  mode: StaticMode;
  exporting: ExportParts;
  kvSlots: number;
  weights: DeviceWeights;
  caches: DeviceCaches;
  graphs: DeviceGraphs;
  /** Null when compiled graphs are not kept. */
  recipes: Recipes | null;
  /** The program takes them over and disposes them last. */
  resources: Disposables;
}

/** A model on the emulated device. Its buckets share weights, caches, memory for activations and equal graphs. */
export class EmulatedProgram implements StaticProgram {
  private readonly parts: EmulatedProgramParts;
  private readonly resources: Disposables;
  private readonly buckets = new Map<string, DeviceBucket>();
  private readonly found = new Map<string, Recipe>();
  private activations: PinnedBuffer | null = null;
  private fromRecipes = 0;
  private running = false;
  private disposed = false;

  constructor(parts: EmulatedProgramParts) {
    this.parts = parts;
    this.resources = parts.resources.move();
  }

  get facts(): StaticFacts {
    const { graphs, weights, caches } = this.parts;
    return {
      graphs: graphs.all.size,
      optimisations: graphs.optimisations,
      recipes: this.fromRecipes,
      weightBytes: weights.bytes,
      cacheBytes: caches.bytes,
    };
  }

  has(bucket: string): boolean {
    return this.buckets.has(bucket);
  }

  hasRecipe(bucket: string): boolean {
    return this.recipeOf(bucket) !== null;
  }

  /**
   * Does nothing for a known bucket.
   * @throws StaticDeviceGraphError for a capture of another model or with an unknown size; LoweringError; OrtCallError; StaticDeviceRecipeError when the recipe
   * cannot be written; DisposedError; the signal's reason
   */
  async add(bucket: string, capture: () => CapturedModel, signal?: AbortSignal): Promise<void> {
    this.assertUsable();
    signal?.throwIfAborted();
    if (this.buckets.has(bucket)) return;
    const recipe = this.recipeOf(bucket);
    const made = (recipe === null ? null : await this.fromRecipe(recipe, signal)) ?? (await this.compile(bucket, capture, signal));
    this.found.delete(bucket);
    this.buckets.set(bucket, this.resources.use(made));
  }

  /**
   * After an abort the caches of these slots are partly written.
   * @throws ProgramInputError before anything runs; ProgramBusyError; DisposedError; OrtCallError; the signal's reason
   */
  async run(bucket: string, step: ProgramStep): Promise<Record<string, HostTensor>> {
    this.assertUsable();
    if (this.running) throw new ProgramBusyError();
    const found = this.buckets.get(bucket);
    if (found === undefined) {
      const known = [...this.buckets.keys()].join(', ') || 'none';
      throw new ProgramInputError(`The program has no bucket "${bucket}"; it has ${known}.`, 'run', 'add the bucket before you run it.');
    }
    this.running = true;
    try {
      return await found.run(step, () => this.assertUsable());
    } finally {
      this.running = false;
    }
  }

  /** See `StaticProgram`. @throws ProgramBusyError during a step; DisposedError */
  moveCacheRows(moves: readonly CacheMove[]): void {
    this.assertUsable();
    if (this.running) throw new ProgramBusyError();
    for (const move of moves) this.parts.caches.moveRows(move);
  }

  /** @throws ProgramBusyError during a step; StaticDeviceWeightError, ParameterWithoutStorageError. Weights are unchanged after an error. */
  updateWeights(): void {
    this.assertUsable();
    if (this.running) throw new ProgramBusyError();
    this.parts.weights.update();
  }

  /** May be called twice, and during a run, which then rejects. Native memory is freed when the run ends. */
  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.disposed = true;
    this.resources[Symbol.dispose]();
    returnFreeMemory();
  }

  private recipeOf(bucket: string): Recipe | null {
    const { recipes, exporting } = this.parts;
    const recipe = this.found.get(bucket) ?? recipes?.read(bucket, exporting.bindRuntimeInput) ?? null;
    if (recipe !== null) this.found.set(bucket, recipe);
    return recipe;
  }

  /** Null for a recipe that fails, which is then replaced. */
  private async fromRecipe({ plan, models }: Recipe, signal?: AbortSignal): Promise<DeviceBucket | null> {
    const { graphs } = this.parts;
    try {
      for (const [graph, model] of models) if (!graphs.all.has(graph)) await graphs.load(graph, model, signal);
      this.assertUsable();
      const made = this.bucketOf(plan);
      this.fromRecipes += 1;
      return made;
    } catch (error) {
      if (signal?.aborted === true || this.disposed || !GraftError.is(error)) throw error;
      return null;
    }
  }

  private async compile(bucket: string, capture: () => CapturedModel, signal?: AbortSignal): Promise<DeviceBucket> {
    const { model, mode, exporting, graphs, recipes } = this.parts;
    const captured = capture();
    if (captured.root !== model)
      throw new StaticDeviceGraphError('The captured model is not the model that was opened.', `bucket "${bucket}"`);
    const { plan, graphs: models } = planBucket(captured, mode, exporting);
    for (const [graph, bytes] of models) {
      if (graphs.all.has(graph)) continue;
      await (recipes === null
        ? graphs.compile(graph, bytes, undefined, signal)
        : recipes.keep(graph, (path) => graphs.compile(graph, bytes, path, signal)));
      this.assertUsable();
    }
    const made = this.bucketOf(plan);
    recipes?.write(bucket, plan);
    return made;
  }

  private bucketOf(plan: BucketPlan): DeviceBucket {
    const { weights, caches, kvSlots, graphs } = this.parts;
    return new DeviceBucket(plan, graphs.all, { weights, caches, kvSlots, activations: (bytes) => this.activationsOf(bytes) });
  }

  private activationsOf(bytes: number): MemoryRegion {
    if (this.activations === null || this.activations.byteLength < bytes)
      this.activations = this.resources.use(PinnedBuffer.allocate(bytes));
    return this.activations;
  }

  private assertUsable(): void {
    if (this.disposed) throw new DisposedError('The program');
  }
}
