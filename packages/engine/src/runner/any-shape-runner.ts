import { Disposables } from '@graft/common';
import type { LanguageModel, MultimodalModel } from '@graft/core-model';
import { CaptureCache, type CapturedModel, type CompileOptions, type HostTensor, type Program } from '@graft/graph';
import { inject, injectable } from '@graft/registry';
import { expectMethods } from '../call-plugin.ts';
import { KvCachePlan } from '../kv-cache.ts';
import type { Report } from '../load-steps.ts';
import { Backend, RunnerParts } from '../tokens.ts';
import { captureMultimodalModel, captureVisionModel } from './capture-image-model.ts';
import { captureLanguageModel, expectVocabulary } from './capture-language-model.ts';
import type { ModelRunner, RunnerStats, RunResult, RunStep } from './model-runner.ts';
import { runResult, stepTensors } from './program-step.ts';
import { Recompiles } from './recompiles.ts';

/** One program for steps of any shape; for a model with images a second one, the tower, that shares nothing with it. */
@injectable()
export class AnyShapeRunner implements ModelRunner {
  readonly kvCache: KvCachePlan;
  readonly maxPrefillTokens = Number.POSITIVE_INFINITY;
  protected readonly parts: RunnerParts;
  private readonly backend: Backend;
  /** What `capture` captured into; a capture after `ready` is a recompile. */
  protected readonly cache = new CaptureCache();
  private readonly programs = new Disposables();
  private computedTokens = 0;
  private captured: { language: CapturedModel; vision: CapturedModel | null } | null = null;
  private language: Program | null = null;
  private vision: Program | null = null;
  private readonly recompiles: Recompiles;

  constructor(@inject(RunnerParts) parts: RunnerParts, @inject(Backend) backend: Backend) {
    this.parts = parts;
    this.backend = backend;
    this.recompiles = new Recompiles(parts);
    this.kvCache = new KvCachePlan(parts.model, parts.context.maxModelLength);
  }

  capture(): void {
    const { model, context, tower } = this.parts;
    this.captured =
      tower !== null && hasImages(model, this.parts)
        ? {
            language: expectVocabulary(captureMultimodalModel(model, this.cache, context.config.hiddenSize), this.parts),
            vision: captureVisionModel(model, this.cache, tower),
          }
        : { language: expectVocabulary(captureLanguageModel(model, this.cache), this.parts), vision: null };
  }

  async compile(report: Report, signal?: AbortSignal): Promise<void> {
    const { language, vision } = this.captured!;
    const { maxSequences: kvSlots } = this.parts.config;
    const kvCache: CompileOptions['bindRuntimeInput'] = (path, kind) => this.kvCache.bindRuntimeInput(path, kind);
    report(0, `compiling for ${this.backend.name}`);
    this.language = await this.compileOne(language, { kvSlots, bindRuntimeInput: kvCache, onProgress: report }, signal);
    if (vision !== null) this.vision = await this.compileOne(vision, { kvSlots: 1, bindRuntimeInput: kvCache, onProgress: report }, signal);
  }

  ready(): void {
    this.cache.onRecompile = this.parts.config.onRecompile;
    this.recompiles.watch(this.cache);
  }

  async run(step: RunStep): Promise<RunResult> {
    const { firstSlot, rows, signal } = step;
    const inputs = stepTensors(this.vision === null ? step : { imageFeatures: this.noFeatures(), ...step }, this.kvCache.groups);
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

  private async compileOne(captured: CapturedModel, options: CompileOptions, signal: AbortSignal | undefined): Promise<Program> {
    const { threads } = this.parts.config;
    const given = { ...(threads !== undefined && { threads }), ...(signal !== undefined && { signal }) };
    const program = await this.backend.compile(captured, { ...options, ...given });
    return this.programs.use(expectMethods(program, ['run'], 'Backend.compile()'));
  }

  /** What a step without images brings a program that can take them. */
  private noFeatures(): HostTensor {
    return { dtype: 'float32', dims: [0, this.parts.context.config.hiddenSize], data: new Float32Array(0) };
  }
}

/** Whether the model was built with what reads images. */
export function hasImages(model: LanguageModel, { tower }: Pick<RunnerParts, 'tower'>): model is MultimodalModel {
  return tower !== null && 'embedImages' in model;
}
