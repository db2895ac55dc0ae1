import { Disposables } from '@graft/common';
import { CaptureCache, type HostTensor, type Program } from '@graft/graph';
import { inject, injectable } from '@graft/registry';
import { guarded } from '../call-plugin.ts';
import { KvCachePlan } from '../kv-cache.ts';
import type { Report } from '../load-steps.ts';
import { Backend, RunnerParts } from '../tokens.ts';
import { CacheWindows } from './cache-windows.ts';
import { captureAnyShape, expectVocabulary } from './capture-model.ts';
import type { ModelRunner, RunnerStats, RunResult, RunStep } from './model-runner.ts';
import { runResult, stepTensors } from './program-step.ts';
import { Recompiles } from './recompiles.ts';

/** Runs steps of any shape in one program. A model with images has a second program, its vision tower, which shares nothing with the first. */
@injectable()
export class AnyShapeRunner implements ModelRunner {
  readonly kvCache: KvCachePlan;
  readonly maxPrefillTokens = Number.POSITIVE_INFINITY;
  exactRows = 1;
  protected readonly parts: RunnerParts;
  private readonly backend: Backend;
  private readonly windows: CacheWindows;
  /** Holds the captured graphs. A capture after `ready` is a recompile. */
  protected readonly cache = new CaptureCache();
  private readonly programs = new Disposables();
  private computedTokens = 0;
  captured?: ReturnType<typeof captureAnyShape>;
  private language: Program | null = null;
  private vision: Program | null = null;
  private readonly recompiles: Recompiles;

  constructor(@inject(RunnerParts) parts: RunnerParts, @inject(Backend) backend: Backend) {
    this.parts = parts;
    this.backend = guarded('Backend', backend, { compile: backend.movesCacheRows === true ? ['run', 'moveCacheRows'] : ['run'] });
    this.recompiles = new Recompiles(parts);
    const windowChunk = backend.movesCacheRows === true ? parts.config.prefillTokens : null;
    this.kvCache = new KvCachePlan(parts.model, parts.context.maxModelLength, { windowChunk });
    this.windows = new CacheWindows(this.kvCache);
  }

  capture(): void {
    this.captured = captureAnyShape(this.parts, this.cache);
    expectVocabulary(this.captured[0], this.parts);
  }

  async compile(report: Report, signal?: AbortSignal): Promise<void> {
    const { maxSequences, threads, platformOptions, numSpeculativeTokens } = this.parts.config;
    report(0, `compiling for ${this.backend.name}`);
    const programs: Program[] = [];
    for (const captured of this.captured!) {
      const program = await this.backend.compile(captured, {
        kvSlots: programs.length === 0 ? maxSequences : 1,
        bindRuntimeInput: (path, kind) => this.kvCache.bindRuntimeInput(path, kind),
        onProgress: report,
        platformOptions,
        ...(threads !== undefined && { threads }),
        ...(signal !== undefined && { signal }),
      });
      programs.push(this.programs.use(guarded('Backend', program)));
    }
    [this.language = null, this.vision = null] = programs;
    if (this.language?.rowsMayAgree !== true || numSpeculativeTokens === 0) return;
    report(1, 'comparing runs of several tokens');
    const { maxModelLength } = this.parts.context;
    this.exactRows = await this.measureExactRows(Math.min(1 + numSpeculativeTokens, maxModelLength, this.kvCache.roomAfter(0)), signal);
  }

  /** See `ModelRunner.exactRows`. @param most tokens of a run that are tried */
  private async measureExactRows(most: number, signal?: AbortSignal): Promise<number> {
    const { vocabSize } = this.parts.context.config;
    const tokenIds = Array.from({ length: most }, (_, i) => (i * 97) % vocabSize);
    const logitsOf = async (computed: number, end: number): Promise<Buffer> => {
      const rows = [{ tokenIds: tokenIds.slice(computed, end), computed }];
      const { logits } = await this.run({ firstSlot: 0, rows, logits: 'all', ...(signal !== undefined && { signal }) });
      return Buffer.from(logits.slice().buffer);
    };
    const together: Buffer[] = [];
    for (let count = 2; count <= most; count++) together.push(await logitsOf(0, count));
    const alone: Buffer[] = []; // these runs write the caches again
    for (let at = 0; at < most; at++) alone.push(await logitsOf(at, at + 1));
    this.computedTokens = 0;
    const differs = together.findIndex((logits, i) => !logits.equals(Buffer.concat(alone.slice(0, i + 2))));
    return differs < 0 ? most : differs + 1;
  }

  ready(): void {
    this.cache.onRecompile = this.parts.config.onRecompile;
    this.recompiles.watch(this.cache);
  }

  async run(step: RunStep): Promise<RunResult> {
    const { firstSlot, rows, signal } = step;
    const inputs = stepTensors(this.vision === null ? step : { imageFeatures: this.noFeatures(), ...step }, this.kvCache.groups);
    this.windows.advance(this.language!, firstSlot, rows);
    const outputs = await this.language!.run({ firstSlot, batch: rows.length, inputs, ...(signal !== undefined && { signal }) });
    this.computedTokens += rows.length * rows[0]!.tokenIds.length;
    return runResult(outputs);
  }

  /** See `ModelRunner.embedImages`. */
  async embedImages(pixelValues: HostTensor, signal?: AbortSignal): Promise<HostTensor> {
    const outputs = await this.vision!.run({ firstSlot: 0, batch: 1, inputs: { pixelValues }, ...(signal !== undefined && { signal }) });
    const features = outputs['imageFeatures']!;
    return { ...features, data: features.data.slice() };
  }

  get stats(): RunnerStats {
    const compiles = (this.language?.facts.graphs ?? 0) + (this.vision?.facts.graphs ?? 0);
    return {
      captures: this.cache.count(),
      compiles,
      optimisations: compiles,
      recipes: 0,
      recompiles: this.recompiles.count,
      recentRecompiles: this.recompiles.recent,
      warmUpSeconds: 0,
      computedTokens: this.computedTokens,
      paddedTokens: 0,
    };
  }

  [Symbol.dispose](): void {
    this.programs[Symbol.dispose]();
  }

  /** The empty features of a step without images. */
  private noFeatures(): HostTensor {
    return { dtype: 'float32', dims: [0, this.parts.context.config.hiddenSize], data: new Float32Array(0) };
  }
}
