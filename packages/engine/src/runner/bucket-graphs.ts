import { setImmediate } from 'node:timers/promises';
import { CaptureCache, type CapturedModel, RecompileRefusedError, type StaticProgram } from '@graft/graph';
import type { Report } from '../load-steps.ts';
import { type Bucket, shapeOf } from './buckets.ts';
import { captureLanguageModel, captureMultimodalModel, captureVisionModel, expectVocabulary, hasImages } from './capture-model.ts';
import type { RunnerParts } from './model-runner.ts';
import { Recompiles } from './recompiles.ts';

/** The key of the vision tower for one tile. */
export const tileKey = 'tile';

/** The key of a bucket's graph: its shape, and whether it takes images. */
export const graphKey = (bucket: Pick<Bucket, 'batch' | 'query'>, withImages: boolean): string =>
  withImages ? `${shapeOf(bucket)} images` : shapeOf(bucket);

/** The graphs of a model at its static shapes: captured and compiled during the warm-up, or when one is needed. */
export class BucketGraphs {
  /** Seconds to make and try each graph, by key. */
  readonly seconds = new Map<string, number>();
  readonly recompiles: Recompiles;
  private readonly parts: RunnerParts;
  private readonly program: StaticProgram;
  private readonly captures: ReadonlyMap<string, (cache: CaptureCache) => CapturedModel>;
  private readonly warmKeys: readonly string[];
  private readonly ahead = new Map<string, CapturedModel>();
  private cache = freshCache();
  private captured = 0;
  private isReady = false;

  /** @param warm the buckets whose graphs `capture` and `compile` make. */
  constructor(parts: RunnerParts, program: StaticProgram, buckets: readonly Bucket[], warm: readonly Bucket[]) {
    this.parts = parts;
    this.program = program;
    this.recompiles = new Recompiles(parts);
    this.captures = captureEach(parts, buckets);
    this.warmKeys = warm.length === 0 ? [] : [...captureEach(parts, warm).keys()];
  }

  get count(): number {
    return this.captured + this.cache.count();
  }

  /** Captures each graph that has no recipe, and lets the event loop turn before each. */
  async capture(report: Report, signal?: AbortSignal): Promise<void> {
    for (const [i, key] of this.warmKeys.entries()) {
      await setImmediate();
      signal?.throwIfAborted();
      report(i / this.warmKeys.length, `capturing bucket ${key}`);
      const start = performance.now();
      if (!this.program.hasRecipe(key)) this.ahead.set(key, this.captureOne(key));
      this.spend(key, start);
    }
  }

  /** Compiles the graphs, or takes them from their recipes. */
  async compile(report: Report, signal?: AbortSignal): Promise<void> {
    for (const [i, key] of this.warmKeys.entries()) {
      report(i / this.warmKeys.length, `compiling bucket ${key}`);
      const start = performance.now();
      await this.program.add(key, () => this.ahead.get(key) ?? this.captureOne(key), signal);
      this.spend(key, start);
      this.ahead.delete(key);
    }
  }

  /** From here a missing graph is a recompile, unless the warm-up is turned off. */
  ready(): void {
    this.isReady = this.parts.config.warmUp;
  }

  /** Makes the graph if it is missing. @throws RecompileRefusedError, and the errors of capture and compilation. */
  async need(key: string, signal?: AbortSignal): Promise<void> {
    if (this.program.has(key)) return;
    if (this.isReady && this.parts.config.onRecompile === 'fail')
      throw new RecompileRefusedError(`Bucket "${key}" has no graph: the warm-up did not make it.`, `bucket "${key}"`);
    const start = performance.now();
    const known = this.cache.recompiles.length;
    await this.program.add(key, () => this.captureOne(key), signal);
    if (!this.isReady) return;
    const missing = { kind: 'input', path: 'bucket', expected: 'a bucket that the warm-up made', actual: key, entry: 'warm-up' } as const;
    const guards = this.cache.recompiles.slice(known).map(({ failures }) => failures.at(-1)!);
    this.recompiles.add({ region: 'bucket', path: key, failures: [missing, ...guards] }, start);
  }

  /** Called after new weights: known results of guards may no longer hold. */
  forget(): void {
    this.captured += this.cache.count();
    this.cache = freshCache();
  }

  spend(key: string, start: number): void {
    this.seconds.set(key, (this.seconds.get(key) ?? 0) + (performance.now() - start) / 1000);
  }

  private captureOne(key: string): CapturedModel {
    return this.captures.get(key)!(this.cache);
  }
}

function freshCache(): CaptureCache {
  return new CaptureCache({ limit: Number.POSITIVE_INFINITY, isFrozen: true });
}

/** The capture of each graph, by key. */
function captureEach(parts: RunnerParts, buckets: readonly Bucket[]): Map<string, (cache: CaptureCache) => CapturedModel> {
  const { model, context, tower } = parts;
  const captures = new Map<string, (cache: CaptureCache) => CapturedModel>();
  for (const bucket of buckets) {
    const shape = { batch: bucket.batch, sequence: bucket.query };
    captures.set(graphKey(bucket, false), (cache) => expectVocabulary(captureLanguageModel(model, cache, shape), parts));
    if (!hasImages(model, parts) || bucket.batch > 1) continue;
    captures.set(graphKey(bucket, true), (cache) =>
      expectVocabulary(captureMultimodalModel(model, cache, context.config.hiddenSize, shape), parts),
    );
  }
  if (hasImages(model, parts)) captures.set(tileKey, (cache) => captureVisionModel(model, cache, tower!, 1));
  return captures;
}
