import { setImmediate } from 'node:timers/promises';
import type { Checkpoint } from '@graft/core-model';
import { assertSamePluginSet } from '@graft/registry';
import type { z } from 'zod';
import { type AnswerSink, readAnswer } from './answer.ts';
import { defaultCacheDirectory, type EngineConfig, parseConfig } from './config.ts';
import { createServices, openModel, readFiles } from './default-services.ts';
import type { Engine, EngineInfo, EngineStats, ReloadOptions, ReloadReport } from './engine.ts';
import { infoOf } from './engine-info.ts';
import { EngineClosedError } from './errors.ts';
import { type GenerationDefaults, readGenerationDefaults } from './generation-config.ts';
import { ImageReader } from './image/image-reader.ts';
import { type LoadedModel, type LoadOptions, loadModel } from './load-model.ts';
import type { LogitsProcessor } from './logits-processors.ts';
import { readSource } from './model-source.ts';
import { parseRequest } from './parse-request.ts';
import { PromptLookup } from './prompt-lookup.ts';
import { PromptReader, type ReadPrompt } from './prompt-reader.ts';
import type { GenerateRequest, TokenDelta } from './request.ts';
import type { RunResult } from './runner/model-runner.ts';
import { SamplerScratch } from './sampler.ts';
import { type Batch, Scheduler } from './scheduler.ts';
import { Sequence, type SequenceObserver, type SharedBySequences } from './sequence.ts';
import { ServedModel } from './served-model.ts';
import { loadEnginePlugins, type StartOptions } from './start-engine.ts';
import type { ModelText } from './text/model-text.ts';
import { BackendChoice, ModelFiles, SequencePolicies } from './tokens.ts';
import { untriedSystem } from './tried-systems.ts';
import { backendFor } from './try-backend.ts';

const noProposals =
  'Prompt lookup proposes no tokens: with this backend and these weights a run of several tokens rounds differently from runs of one.';

export interface GenerateOptions {
  signal?: AbortSignal;
  /** For verification: observes logits and residual streams, and forces tokens. */
  observer?: SequenceObserver;
}

/** The engine in process: requests become sequences, and a loop of steps (schedule, run, sample, emit) serves them together. */
export class LlmEngine implements Engine {
  private readonly model: ServedModel;
  private readonly prompts: PromptReader;
  private readonly scheduler: Scheduler;
  private readonly lookup: PromptLookup;
  private readonly shared: SharedBySequences;
  private loop: Promise<void> | null = null;
  private closing: Promise<void> | null = null;

  private constructor(model: ServedModel, prompts: PromptReader, scheduler: Scheduler, lookup: PromptLookup, shared: SharedBySequences) {
    this.model = model;
    this.prompts = prompts;
    this.scheduler = scheduler;
    this.lookup = lookup;
    this.shared = shared;
  }

  /**
   * Loads the plugins, chooses the platform and loads the model through the override path.
   * @throws EngineConfigError, and the errors of each step.
   */
  static async start(config: z.input<typeof EngineConfig>, options: StartOptions = {}): Promise<LlmEngine> {
    const parsed = parseConfig(config);
    const untried = untriedSystem();
    if (untried !== null) options.events?.emit('load:warning', { message: untried });
    const plugins = await loadEnginePlugins(parsed, options);
    if (options.expectedPlugins !== undefined) assertSamePluginSet(options.expectedPlugins, plugins.records);
    const platform = await plugins.selectPlatform(parsed.platform);
    return await readFiles(plugins, platform, parsed, async (files) => {
      using checkpoint = await openModel(plugins, files, parsed);
      const source = await readSource(plugins.registry, checkpoint, parsed.architecture);
      const { events: _, ...measuring } = options;
      const choice = await backendFor({ ...measuring, plugins, platform, config: withCache(parsed), source });
      const container = createServices(plugins, platform, parsed, choice);
      return await LlmEngine.load({ ...options, plugins, platform, container, checkpoint, config: parsed });
    });
  }

  /** The second half of `start`. The engine owns the container, even if loading fails. */
  static async load(options: Omit<LoadOptions, 'source'> & { checkpoint: Checkpoint }): Promise<LlmEngine> {
    const { plugins, platform, container, checkpoint } = options;
    const config = withCache(options.config);
    try {
      const source = await readSource(plugins.registry, checkpoint, config.architecture); // before the tokenizer: an unknown architecture is the error
      const files = await container.get(ModelFiles);
      const text = await files.text(checkpoint);
      const generationDefaults = await readGenerationDefaults(checkpoint, config.generationConfig);
      const loaded = await loadModel({ ...options, config, source });
      const choice = container.has(BackendChoice) ? await container.get(BackendChoice) : null;
      const info = infoOf({ config, plugins, platform }, loaded, text, generationDefaults, choice);
      const prompts = await openPromptReader(checkpoint, loaded, info, text);
      const { scheduler: policy, processors } = await container.get(SequencePolicies);
      const { kvCache, maxPrefillTokens } = loaded.runner;
      const prefillTokens = Math.min(config.prefillTokens, maxPrefillTokens);
      const { events } = options;
      const context = { container, platform, config, ...(events !== undefined && { events }) };
      const served = new ServedModel(loaded, info, context);
      const exactRows = (): number => served.runner.exactRows ?? 1; // a reload may replace the runner
      if (config.numSpeculativeTokens > 0 && exactRows() === 1) events?.emit('load:warning', { message: noProposals });
      const lookup = new PromptLookup(config, exactRows);
      const scheduler = new Scheduler({ maxSequences: config.maxSequences, prefillTokens, kvCache, policy, lookup });
      const shared = sharedBySequences(loaded, text, generationDefaults, processors);
      return new LlmEngine(served, prompts, scheduler, lookup, shared);
    } catch (error) {
      await container[Symbol.asyncDispose]();
      throw error;
    }
  }

  get info(): EngineInfo {
    return this.model.info;
  }

  /** See `Engine.generate`. */
  generate(request: GenerateRequest, { signal, observer }: GenerateOptions = {}): AsyncGenerator<TokenDelta, void, void> {
    return readAnswer((sink) => this.begin(request, sink, observer), signal);
  }

  /**
   * Like `generate`, but pushes each delta into a sink.
   * @returns a function that ends the answer early and frees its slot. Calling it after the end is harmless.
   */
  begin(request: GenerateRequest, sink: AnswerSink, observer?: SequenceObserver): () => void {
    const takenAt = performance.now();
    this.requireOpen();
    const { prompt, sampling } = parseRequest(request, this.info.generationDefaults.sampling);
    const reading = new AbortController();
    let sequence: Sequence | null = null;
    const add = (read: ReadPrompt): void => {
      this.requireOpen(); // images were decoded meanwhile
      sequence = new Sequence({ ...read, sampling, sink, shared: this.shared, takenAt, ...(observer !== undefined && { observer }) });
      this.scheduler.add(sequence);
      this.wake();
    };
    const read = this.prompts.read(prompt, reading.signal);
    if (read instanceof Promise) read.then(add).catch((error: unknown) => sink.fail(error));
    else add(read);
    return () => {
      reading.abort();
      if (sequence !== null) this.release(sequence);
    };
  }

  async tokenize(text: string): Promise<number[]> {
    return this.prompts.tokenizer.encode(text);
  }

  /** See `Engine.reloadWeights`. */
  async reloadWeights(model: string, options: ReloadOptions = {}): Promise<ReloadReport> {
    options.signal?.throwIfAborted();
    this.requireOpen();
    return await this.model.reload(model, options, {
      drain: async () => {
        this.scheduler.hold();
        await this.loop;
      },
      resume: () => {
        this.scheduler.release();
        this.wake();
      },
    });
  }

  async stats(): Promise<EngineStats> {
    return { ...this.scheduler.counts, ...this.shared.counts, ...this.lookup.counts, ...this.model.stats };
  }

  /** Ends all requests and frees the model. A second call waits for the first. */
  close(): Promise<void> {
    return (this.closing ??= this.end());
  }

  private async end(): Promise<void> {
    const closed = new EngineClosedError();
    this.model.abortReload(closed);
    for (const sequence of this.scheduler.sequences()) {
      sequence.fail(closed);
      this.release(sequence);
    }
    await this.loop;
    await this.model[Symbol.asyncDispose]();
  }

  private wake(): void {
    if (this.scheduler.hasWork) this.loop ??= this.run();
  }

  private async run(): Promise<void> {
    while (this.scheduler.hasWork) {
      await this.step().catch((error: unknown) => failAll(this.scheduler.sequences(), error)); // thrown by a plugin's policy
      await setImmediate(); // aborts and new requests come in between two steps
    }
    this.loop = null; // in the same turn as the last check for work, so no request is missed
  }

  /** Schedule, run, sample, emit. An error ends only the sequences that it concerns. */
  private async step(): Promise<void> {
    for (const batch of this.scheduler.schedule()) {
      const { sequences } = batch;
      const begun = performance.now();
      const result = await this.compute(batch).catch((error: unknown) => failAll(sequences, error));
      if (result === null) continue;
      const ms = performance.now() - begun;
      for (const [row, sequence] of sequences.entries()) {
        if (sequence.ended) continue; // during the run
        try {
          const chosen = this.choose(sequence, batch, rowOf(result, row, sequences.length));
          if (batch.draft !== undefined) this.lookup.took(sequence, batch.draft.length, chosen, ms);
        } catch (error) {
          sequence.fail(error);
        }
      }
    }
  }

  /** Chooses the token after the run's; while it is the one that was proposed, the next one too. @returns how many were chosen. */
  private choose(sequence: Sequence, { count, draft = [] }: Batch, result: RunResult): number {
    let chosen = 0;
    for (let goesOn = true; goesOn; chosen++) {
      const logits = sequence.advance(count - draft.length, rowOf(result, chosen, 1 + draft.length));
      if (logits === null) break;
      const sampled = sequence.sample(logits);
      sequence.emit(sampled);
      goesOn = !sequence.ended && sampled.tokenId === draft[chosen];
    }
    return chosen;
  }

  /**
   * Runs the model for a batch or, while a prompt has pending images, for one tile, so that decoding sequences wait for one run at most. Null if no sequence
   * advanced. A run needs contiguous slots: a sequence that ended since `schedule` is still computed, and its result is dropped.
   */
  private async compute({ firstSlot, sequences, count, draft = [] }: Batch): Promise<RunResult | null> {
    if (sequences.every(({ ended }) => ended)) return null;
    const [{ images, observer, abort, decoding }] = sequences as [Sequence];
    if (images?.pending === true) {
      images.take(await this.model.runner.embedImages!(images.nextTile(), abort.signal));
      if (!images.pending) observer.onImageFeatures?.(images.all);
      return null;
    }
    const pieces = sequences.map((sequence) => sequence.piece(count, draft));
    return await this.model.runner.run({
      firstSlot,
      rows: pieces.map(({ row }) => row),
      ...pieces[0]!.step,
      logits: draft.length > 0 || (observer.promptLogits === true && !decoding) ? 'all' : 'last',
      isFree: (slot) => this.scheduler.isFree(slot),
      ...(!decoding && { signal: abort.signal }),
    });
  }

  private requireOpen(): void {
    if (this.closing !== null) throw new EngineClosedError();
  }

  private release(sequence: Sequence): void {
    sequence.cancel();
    this.scheduler.remove(sequence);
  }
}

const withCache = (config: EngineConfig) => ({ ...config, cacheDirectory: config.cacheDirectory ?? defaultCacheDirectory() });

function failAll(sequences: readonly Sequence[], error: unknown): null {
  for (const sequence of sequences) sequence.fail(error);
  return null;
}

function sharedBySequences(
  { config, context }: LoadedModel,
  { tokenizer }: ModelText,
  { eosTokenIds }: GenerationDefaults,
  processors: readonly LogitsProcessor[],
): SharedBySequences {
  const { vocabSize } = config;
  return {
    tokenizer,
    eosTokenIds: new Set([...config.eosTokenIds, ...(tokenizer?.eosTokenIds ?? []), ...eosTokenIds]),
    maxModelLength: context.maxModelLength,
    vocabSize,
    processors,
    scratch: new SamplerScratch(vocabSize),
    counts: { promptTokens: 0, generationTokens: 0 },
  };
}

/** @throws EngineConfigError for a preprocessor_config.json that does not fit the model. */
async function openPromptReader(checkpoint: Checkpoint, loaded: LoadedModel, info: EngineInfo, text: ModelText): Promise<PromptReader> {
  const { tower, family } = loaded;
  const reads = info.readsImages && tower && family.images;
  return new PromptReader({ info, text, images: reads ? await ImageReader.open(checkpoint.path, tower, reads, info.imageLimits) : null });
}

/** Row `i` of a run whose rows have equally many tokens. */
function rowOf({ vocabSize, logits, auxHiddenStates }: RunResult, i: number, rows: number): RunResult {
  if (rows === 1) return { vocabSize, logits, auxHiddenStates };
  const part = (all: Float32Array): Float32Array => all.subarray((i * all.length) / rows, ((i + 1) * all.length) / rows);
  return { vocabSize, logits: part(logits), auxHiddenStates: auxHiddenStates.map(part) };
}
