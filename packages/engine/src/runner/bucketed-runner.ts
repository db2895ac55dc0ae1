import { join } from 'node:path';
import type { HostTensor, StaticProgram } from '@graft/graph';
import { inject, injectable } from '@graft/registry';
import { guarded } from '../call-plugin.ts';
import { KvCachePlan } from '../kv-cache.ts';
import type { Report } from '../load-steps.ts';
import { BucketPolicy, RunnerParts, StaticBackend } from '../tokens.ts';
import { BucketGraphs, graphKey, tileKey } from './bucket-graphs.ts';
import { type Bucket, oneOfEachGraph, requireSmallestBucket } from './buckets.ts';
import { CacheWindows } from './cache-windows.ts';
import { hasImages } from './capture-model.ts';
import type { ModelRunner, RunnerStats, RunResult, RunStep, WarmUpSummary } from './model-runner.ts';
import { joined, runResult, stepTensors } from './program-step.ts';
import { type StepPiece, stepPieces } from './step-pieces.ts';
import { requireFinite, requireSame, summaryRows, tileValues, warmUpPiece } from './warm-up.ts';

/**
 * Runs a model on a device that compiles for static shapes. A step is padded to a bucket, or split if no bucket holds it. Rows of padding come after the real
 * ones. In a decode batch they stand on slots that no sequence holds; the cache has spare slots after those of the sequences.
 */
@injectable()
export class BucketedModelRunner implements ModelRunner {
  readonly kvCache: KvCachePlan;
  readonly maxPrefillTokens: number;
  /** Buckets that the warm-up makes and tries. */
  protected readonly warm: readonly Bucket[];
  protected readonly parts: RunnerParts;
  private readonly backend: StaticBackend;
  private readonly windows: CacheWindows;
  private readonly policy: BucketPolicy;
  private readonly buckets: readonly Bucket[];
  private readonly formats: string;
  private readonly tokens = { computedTokens: 0, paddedTokens: 0 };
  /** Both are set by `open`. */
  private program!: StaticProgram;
  private graphs!: BucketGraphs;
  /** Settles when the device is free: steps and tiles take turns. */
  private turn: Promise<unknown> = Promise.resolve();

  constructor(
    @inject(RunnerParts) parts: RunnerParts,
    @inject(StaticBackend) backend: StaticBackend,
    @inject(BucketPolicy) policy: BucketPolicy,
  ) {
    const { buckets, warmUp = buckets } = policy;
    this.parts = parts;
    this.backend = backend;
    this.policy = policy;
    this.buckets = buckets;
    this.warm = parts.config.warmUp ? warmUp : [];
    this.maxPrefillTokens = largestQuery(buckets);
    const windowChunk = backend.movesCacheRows === true ? Math.min(parts.config.prefillTokens, this.maxPrefillTokens) : null;
    const paddingRows = this.maxPrefillTokens;
    this.kvCache = new KvCachePlan(parts.model, parts.context.maxModelLength, { paddingRows, windowChunk });
    this.windows = new CacheWindows(this.kvCache);
    this.formats = formatsOf(parts);
  }

  /** See `ModelRunner.open`. @throws EngineConfigError for buckets that cannot serve every sequence; the backend's errors. */
  async open(report: Report, signal?: AbortSignal): Promise<void> {
    const { model, context, config } = this.parts;
    requireSmallestBucket(this.policy, context.maxModelLength);
    const parts = ['add', 'run', ...(this.backend.movesCacheRows === true ? ['moveCacheRows'] : [])];
    this.program = await guarded('StaticBackend', this.backend, { open: parts }).open(model, {
      bindRuntimeInput: (path, kind) => this.kvCache.bindRuntimeInput(path, kind),
      kvSlots: config.maxSequences + Math.max(...this.buckets.map(({ batch }) => batch)) - 1,
      recipeDirectory: config.cacheDirectory === undefined ? null : join(config.cacheDirectory, 'recipes'),
      onProgress: report,
      platformOptions: config.platformOptions,
      ...(config.threads !== undefined && { threads: config.threads }),
      ...(signal !== undefined && { signal }),
    });
    this.graphs = new BucketGraphs(this.parts, this.program, this.buckets, this.warm);
  }

  async capture(report: Report, signal?: AbortSignal): Promise<void> {
    await this.graphs.capture(report, signal);
  }

  async compile(report: Report, signal?: AbortSignal): Promise<void> {
    await this.graphs.compile(report, signal);
  }

  /** Runs every graph once, and one prompt twice. Logits must be finite, and the same the second time. @throws WarmUpError */
  async warmUp(report: Report, signal?: AbortSignal): Promise<WarmUpSummary | null> {
    if (this.warm.length === 0) return null;
    const pieces = this.warmPieces();
    const again = smallestPrompt(pieces).piece;
    for (const [i, { key, piece }] of pieces.entries()) {
      report(i / pieces.length, `running bucket ${key}`);
      const start = performance.now();
      const { logits } = await this.runPiece(piece, signal);
      requireFinite(logits, key);
      if (piece === again) requireSame(logits.slice(), (await this.runPiece(piece, signal)).logits, key);
      this.graphs.spend(key, start);
    }
    if (this.hasImages()) {
      const start = performance.now();
      await this.tryTile(signal);
      this.graphs.spend(tileKey, start);
    }
    const { captures: captured, optimisations: optimised, recipes: fromRecipes, warmUpSeconds: seconds } = this.stats;
    return { rows: summaryRows(this.warm, this.graphs.seconds), captured, optimised, fromRecipes, seconds };
  }

  ready(): void {
    this.graphs.ready();
    this.tokens.computedTokens = this.tokens.paddedTokens = 0; // the warm-up's tokens belong to no sequence
  }

  async run(step: RunStep): Promise<RunResult> {
    const scratch = this.parts.config.maxSequences;
    const pieces = stepPieces(step, this.buckets, (slot) => slot >= scratch || step.isFree?.(slot) === true);
    if (pieces.length === 1) return this.runPiece(pieces[0]!, step.signal);
    const results: RunResult[] = [];
    for (const piece of pieces) results.push(copyOf(await this.runPiece(piece, step.signal)));
    return {
      vocabSize: results[0]!.vocabSize,
      logits: joined(results.filter((_, i) => pieces[i]!.keepsLogits).map(({ logits }) => logits)),
      auxHiddenStates: results[0]!.auxHiddenStates.map((_, layer) => joined(results.map((result) => result.auxHiddenStates[layer]!))),
    };
  }

  /** See `ModelRunner.embedImages`. */
  async embedImages(pixelValues: HostTensor, signal?: AbortSignal): Promise<HostTensor> {
    const [tiles, ...dims] = pixelValues.dims as [number, ...number[]];
    const size = pixelValues.data.length / tiles;
    const features: HostTensor[] = [];
    for (let tile = 0; tile < tiles; tile++) {
      const data = pixelValues.data.slice(tile * size, (tile + 1) * size);
      features.push(await this.runTile({ dtype: 'float32', dims: [1, ...dims], data }, signal));
    }
    const [rows, hidden] = features[0]!.dims as [number, number];
    return { dtype: 'float32', dims: [tiles * rows, hidden], data: joined(features.map(({ data }) => data as Float32Array)) };
  }

  acceptsWeights(): boolean {
    return formatsOf(this.parts) === this.formats;
  }

  /** After a warm-up, its smallest prompt is run again. @throws WarmUpError if the weights give values that are not finite; the program's errors. */
  async updateWeights(): Promise<void> {
    await this.inTurn(async () => this.program.updateWeights());
    this.graphs.forget();
    if (this.warm.length === 0) return;
    const before = { ...this.tokens };
    const { key, piece } = smallestPrompt(this.warmPieces());
    try {
      requireFinite((await this.runPiece(piece)).logits, key);
      if (this.hasImages()) await this.tryTile();
    } finally {
      Object.assign(this.tokens, before); // as in `ready`
    }
  }

  get stats(): RunnerStats {
    const { graphs: compiles, optimisations, recipes } = this.program.facts;
    const warmUpSeconds = [...this.graphs.seconds.values()].reduce((sum, seconds) => sum + seconds, 0);
    const { count: captures, recompiles } = this.graphs;
    const { count, recent: recentRecompiles } = recompiles;
    return { captures, compiles, optimisations, recipes, recompiles: count, recentRecompiles, warmUpSeconds, ...this.tokens };
  }

  [Symbol.dispose](): void {
    this.program?.[Symbol.dispose](); // undefined if `open` failed
  }

  private hasImages(): boolean {
    return hasImages(this.parts.model, this.parts);
  }

  private warmPieces(): WarmPiece[] {
    return oneOfEachGraph(this.warm).flatMap((bucket) =>
      (this.hasImages() && bucket.batch === 1 ? [false, true] : [false]).map((withImages) => ({
        key: graphKey(bucket, withImages),
        piece: warmUpPiece(bucket, this.parts.context, withImages),
      })),
    );
  }

  private async tryTile(signal?: AbortSignal): Promise<void> {
    const { data } = await this.runTile(tileValues(this.parts.tower!), signal);
    requireFinite(data as Float32Array, tileKey);
  }

  private runPiece(piece: StepPiece, signal?: AbortSignal): Promise<RunResult> {
    const { bucket, rows, firstSlot, imageFeatures, realRows, tokens } = piece;
    const features = imageFeatures === null ? {} : { imageFeatures };
    const inputs = stepTensors({ rows, logits: 'last', ...features }, this.kvCache.groups);
    return this.inTurn(async () => {
      this.windows.advance(this.program, firstSlot, rows);
      const outputs = await this.runGraph(graphKey(bucket, imageFeatures !== null), { firstSlot, batch: bucket.batch, inputs }, signal);
      this.tokens.computedTokens += realRows * tokens;
      this.tokens.paddedTokens += bucket.batch * bucket.query - realRows * tokens;
      const result = withoutPadding(runResult(outputs), piece);
      return this.hasImages() ? copyOf(result) : result; // the next run may be a tile, before the caller reads these
    });
  }

  private runTile(pixelValues: HostTensor, signal?: AbortSignal): Promise<HostTensor> {
    return this.inTurn(async () => {
      const outputs = await this.runGraph(tileKey, { firstSlot: 0, batch: 1, inputs: { pixelValues } }, signal);
      const features = outputs['imageFeatures']!;
      return { ...features, data: features.data.slice() };
    });
  }

  private async runGraph(key: string, step: Parameters<StaticProgram['run']>[1], signal: AbortSignal | undefined) {
    signal?.throwIfAborted();
    await this.graphs.need(key, signal);
    return this.program.run(key, { ...step, ...(signal !== undefined && { signal }) });
  }

  private inTurn<T>(body: () => Promise<T>): Promise<T> {
    const result = this.turn.then(body);
    this.turn = result.catch(() => undefined); // the caller gets the error
    return result;
  }
}

interface WarmPiece {
  readonly key: string;
  readonly piece: StepPiece;
}

/** The first prompt; without buckets for prompts, the first piece. */
function smallestPrompt(pieces: readonly WarmPiece[]): WarmPiece {
  return pieces.find(({ piece }) => piece.bucket.query > 1) ?? pieces[0]!;
}

/** Tokens of the longest piece of a prompt. */
function largestQuery(buckets: readonly Bucket[]): number {
  return Math.max(...buckets.filter(({ batch }) => batch === 1).map(({ query }) => query));
}

/** Graphs are compiled for these: each parameter's name, type and shape. */
function formatsOf({ model }: RunnerParts): string {
  return JSON.stringify([...model.namedParameters()].map(([name, { dtype, shape }]) => [name, dtype, shape]));
}

/** Views of the results of the real rows. */
function withoutPadding({ vocabSize, logits, auxHiddenStates }: RunResult, { realRows, tokens, bucket }: StepPiece): RunResult {
  const real = (realRows * tokens) / (bucket.batch * bucket.query); // one row, or one token per row: the real values are contiguous
  return {
    vocabSize,
    logits: logits.subarray(0, realRows * vocabSize),
    auxHiddenStates: auxHiddenStates.map((state) => state.subarray(0, state.length * real)),
  };
}

function copyOf({ vocabSize, logits, auxHiddenStates }: RunResult): RunResult {
  return { vocabSize, logits: logits.slice(), auxHiddenStates: auxHiddenStates.map((state) => state.slice()) };
}
