import { setImmediate } from 'node:timers/promises';
import type { EventBus } from '@graft/common';
import { type Checkpoint, openCheckpoint } from '@graft/core-model';
import { assertSamePluginSet, type EngineContainer, type SelectedPlatform } from '@graft/registry';
import type { z } from 'zod';
import { defaultCacheDirectory, type EngineConfig } from './config.ts';
import type { Engine, EngineEvents, EngineInfo, EngineStats, ReloadOptions, ReloadReport } from './engine.ts';
import { changesOf, commonFormat, infoOf } from './engine-info.ts';
import { EngineClosedError, InvalidRequestError, ReloadBusyError } from './errors.ts';
import { ImageReader } from './image/image-reader.ts';
import type { PromptImages } from './image/prompt-images.ts';
import { describeIssue } from './issue.ts';
import { type LoadedModel, type LoadOptions, loadModel } from './load-model.ts';
import { apiLogitsProcessors, type LogitsProcessor } from './logits-processors.ts';
import { Permits } from './permits.ts';
import { imagesOf, PromptReader } from './prompt-reader.ts';
import { reloadModel } from './reload-model.ts';
import { GenerateRequest, type TokenDelta } from './request.ts';
import { addStats, noStats } from './runner/add-stats.ts';
import type { ModelRunner, RunResult } from './runner/model-runner.ts';
import { Sampler, SamplerScratch } from './sampler.ts';
import { SamplingParams } from './sampling-params.ts';
import { type DecodeGroup, Scheduler, type Step } from './scheduler.ts';
import { FirstComeFirstServed } from './scheduler-policy.ts';
import { Sequence, type SequenceObserver, type SequenceOptions } from './sequence.ts';
import { loadEnginePlugins, parseConfig, type StartOptions } from './start-engine.ts';
import { type ModelText, openModelText } from './text/model-text.ts';
import { LogitsProcessors, SchedulerPolicy } from './tokens.ts';

export interface GenerateOptions {
  signal?: AbortSignal;
  /** For verification: watch logits and residual streams, force tokens. */
  observer?: SequenceObserver;
}

/** The engine in process: requests become sequences, and a loop of steps (schedule, run, sample, emit) serves them together. */
export class LlmEngine implements Engine {
  private loaded: LoadedModel;
  private served: EngineInfo;
  private readonly config: EngineConfig;
  private readonly platform: SelectedPlatform;
  private readonly container: EngineContainer;
  private readonly text: ModelText;
  private readonly events: EventBus<EngineEvents> | undefined;
  private readonly prompts: PromptReader;
  private readonly scheduler: Scheduler;
  /** Requests with images that are in memory decoded: tiles take a hundred times what the files do, and the queue has no limit. */
  private readonly imagePermits: Permits;
  private readonly eosTokenIds: ReadonlySet<number>;
  private readonly scratch: SamplerScratch;
  private readonly processors: readonly LogitsProcessor[];
  /** Of the runners that a reload replaced: what the engine counts never goes back. */
  private replaced = noStats;
  private readonly counters = { promptTokens: 0, generationTokens: 0 };
  private loop: Promise<void> | null = null;
  private reloading: Reloading | null = null;
  private closing: Promise<void> | null = null;

  private constructor({ loaded, info, config, platform, container, text, prompts, events, policy, processors }: EngineParts) {
    this.loaded = loaded;
    this.served = info;
    this.config = config;
    this.platform = platform;
    this.container = container;
    this.text = text;
    this.events = events;
    this.prompts = prompts;
    const { kvCache, maxPrefillTokens } = loaded.runner;
    const prefillTokens = Math.min(config.prefillTokens, maxPrefillTokens);
    this.imagePermits = new Permits(config.maxSequences);
    this.scheduler = new Scheduler({ maxSequences: config.maxSequences, prefillTokens, kvCache, policy });
    this.processors = processors;
    this.eosTokenIds = new Set([...loaded.config.eosTokenIds, ...(text.tokenizer?.eosTokenIds ?? []), ...text.eosTokenIds]);
    this.scratch = new SamplerScratch(loaded.config.vocabSize);
  }

  /**
   * Loads the plugins, chooses the platform, loads the model through the override path and is ready to serve.
   * @throws EngineConfigError and the errors of each step.
   */
  static async start(config: z.input<typeof EngineConfig>, options: StartOptions = {}): Promise<LlmEngine> {
    const parsed = parseConfig(config);
    const plugins = await loadEnginePlugins(parsed, options);
    if (options.expectedPlugins !== undefined) assertSamePluginSet(options.expectedPlugins, plugins.records);
    const platform = await plugins.selectPlatform(parsed.platform);
    using checkpoint = closing(await openCheckpoint(parsed.model));
    const container = plugins.createEngineContainer();
    return await LlmEngine.load({ ...options, plugins, platform, container, checkpoint, config: parsed });
  }

  /** The second half of `start`: an engine of what was found. It owns the container from now on, also where it fails. */
  static async load(options: LoadOptions): Promise<LlmEngine> {
    const { plugins, platform, container, checkpoint } = options;
    const config = { ...options.config, cacheDirectory: options.config.cacheDirectory ?? defaultCacheDirectory() };
    let loaded: LoadedModel | null = null;
    try {
      const text = await openModelText(checkpoint);
      loaded = await loadModel({ ...options, config });
      const info = infoOf({ config, loaded, plugins, platform, text });
      const prompts = await openPromptReader(checkpoint, loaded, info, text);
      const policy = container.has(SchedulerPolicy) ? await container.getAsync(SchedulerPolicy) : new FirstComeFirstServed();
      const added = container.has(LogitsProcessors) ? await container.getAsync(LogitsProcessors) : [];
      const processors = [...apiLogitsProcessors, ...added];
      const { events } = options;
      return new LlmEngine({ loaded, info, config, platform, container, text, prompts, events, policy, processors });
    } catch (error) {
      loaded?.runner[Symbol.dispose]();
      await container[Symbol.asyncDispose]();
      throw error;
    }
  }

  get info(): EngineInfo {
    return this.served;
  }

  /** See `Engine.generate`. */
  async *generate(request: GenerateRequest, { signal, observer = {} }: GenerateOptions = {}): AsyncGenerator<TokenDelta, void, void> {
    signal?.throwIfAborted();
    const takenAt = performance.now();
    const { prompt, sampling } = this.parse(request);
    using _permit = imagesOf(prompt).length === 0 ? null : await this.imagePermits.acquire(signal);
    const reading = this.prompts.read(prompt, signal);
    const read = reading instanceof Promise ? await reading : reading; // without images a sequence is there at once
    signal?.throwIfAborted();
    const sequence = this.createSequence({ ...read, sampling, takenAt, observer });
    const onAbort = (): void => {
      sequence.fail(signal?.reason);
      this.release(sequence);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      this.scheduler.add(sequence);
      this.wake();
      for await (const delta of sequence.stream) yield delta;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.release(sequence);
    }
  }

  async tokenize(text: string): Promise<number[]> {
    return this.prompts.tokenizer.encode(text);
  }

  /** See `Engine.reloadWeights`. */
  async reloadWeights(model: string, { signal, onProgress }: ReloadOptions = {}): Promise<ReloadReport> {
    signal?.throwIfAborted();
    if (this.closing !== null) throw new EngineClosedError();
    if (this.reloading !== null) throw new ReloadBusyError(this.reloading.model);
    const closed = new AbortController();
    const ended = this.reload(model, {
      signal: AbortSignal.any([closed.signal, ...(signal === undefined ? [] : [signal])]),
      ...(onProgress !== undefined && { onProgress }),
    });
    this.reloading = { model, closed, ended };
    try {
      return await ended;
    } finally {
      this.reloading = null;
      this.scheduler.release();
      this.wake();
    }
  }

  async stats(): Promise<EngineStats> {
    const { tokens, ...counts } = addStats(this.replaced, this.runner.stats);
    return { ...this.scheduler.counts, ...this.counters, ...counts, computedTokens: tokens.computed, paddedTokens: tokens.padded };
  }

  /** Ends what runs and frees the model. Twice without harm. */
  close(): Promise<void> {
    return (this.closing ??= this.end());
  }

  private async reload(path: string, { signal, onProgress }: ReloadOptions & { signal: AbortSignal }): Promise<ReloadReport> {
    using checkpoint = closing(await openCheckpoint(path));
    const { config, platform, container, events } = this;
    const { loaded, weights, hooks, timings } = await reloadModel(this.loaded, {
      container,
      platform,
      config,
      checkpoint,
      signal,
      drain: () => this.drain(signal),
      ...(events !== undefined && { events }),
      ...(onProgress !== undefined && { onProgress }),
    });
    const { runner: old } = this;
    this.loaded = loaded;
    this.served = { ...this.served, weights: commonFormat(loaded.model), changes: changesOf(loaded.hooks), warmUp: loaded.warmUp };
    if (old !== this.runner) {
      this.replaced = addStats(this.replaced, old.stats);
      old[Symbol.dispose]();
    }
    const { fromCache, bytes, parameters } = weights;
    const { renames } = loaded.hooks.toJSON();
    return { model: path, weights: this.served.weights, parameters, bytes, fromCache, hooks: [...hooks], renames: [...renames], timings };
  }

  /** Lets what runs come to its end, and nothing new begin. */
  private async drain(signal: AbortSignal): Promise<void> {
    this.scheduler.hold();
    await unlessAborted(this.loop ?? Promise.resolve(), signal);
  }

  private async end(): Promise<void> {
    this.reloading?.closed.abort(new EngineClosedError());
    for (const sequence of this.scheduler.sequences()) {
      sequence.fail(new EngineClosedError());
      this.release(sequence);
    }
    await this.loop;
    await this.reloading?.ended.catch(() => undefined); // whoever asked for it hears of it
    this.runner[Symbol.dispose]();
    await this.container[Symbol.asyncDispose]();
  }

  private get runner(): ModelRunner {
    return this.loaded.runner;
  }

  private wake(): void {
    if (this.scheduler.hasWork) this.loop ??= this.run();
  }

  private async run(): Promise<void> {
    while (this.scheduler.hasWork) {
      await this.guarded(this.scheduler.sequences(), () => this.step(this.scheduler.schedule())); // what a plugin's policy throws ends requests, not the loop
      await setImmediate(); // aborts and new requests come in between two steps
    }
    this.loop = null; // in the same turn as the last look for work, so that no request falls between
  }

  private async step({ prefill, decode }: Step): Promise<void> {
    if (prefill !== null) await this.guarded([prefill.sequence], () => this.computePrompt(prefill.sequence, prefill.count));
    for (const group of decode) await this.guarded(group.sequences, () => this.decode(group));
  }

  /** An error in a run ends the sequences of that run, not the engine. */
  private async guarded(sequences: readonly Sequence[], body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      for (const sequence of sequences) sequence.fail(error);
    }
  }

  /** A tile of an image while there are any, then a piece: neither holds up those that decode for longer than the other. */
  private computePrompt(sequence: Sequence, count: number): Promise<void> {
    return sequence.images?.pending === true ? this.embedTile(sequence, sequence.images) : this.prefill(sequence, count);
  }

  private async embedTile(sequence: Sequence, images: PromptImages): Promise<void> {
    if (sequence.ended) return;
    images.take(await this.runner.embedImages!(images.nextTile(), sequence.abort.signal));
    if (!images.pending) sequence.observer.onImageFeatures?.(images.all);
  }

  private async prefill(sequence: Sequence, count: number): Promise<void> {
    const { computed, tokenIds, observer, promptLength } = sequence;
    if (sequence.ended) return;
    const piece = tokenIds.slice(computed, computed + count);
    const logits = observer.promptLogits === true ? 'all' : 'last';
    const images = sequence.images?.piece(computed, count);
    const result = await this.runner.run({
      firstSlot: sequence.slot!,
      rows: [{ tokenIds: piece, computed, ...images?.row }],
      ...images?.step,
      logits,
      isFree: (slot) => this.scheduler.isFree(slot),
      signal: sequence.abort.signal,
    });
    if (sequence.ended) return;
    const { vocabSize } = result;
    for (let i = 0; logits === 'all' && i < count; i++)
      observer.onLogits?.(computed + i, result.logits.subarray(i * vocabSize, (i + 1) * vocabSize));
    observer.onAuxHiddenStates?.(computed, count, result.auxHiddenStates);
    sequence.computed += count;
    this.counters.promptTokens += count;
    if (sequence.computed < promptLength) return;
    sequence.images = null;
    const last = result.logits.subarray(result.logits.length - vocabSize);
    if (logits === 'last') observer.onLogits?.(promptLength - 1, last);
    this.take(sequence, last);
  }

  private async decode({ firstSlot, sequences }: DecodeGroup): Promise<void> {
    if (sequences.every(({ ended }) => ended)) return;
    // The run needs contiguous slots, so a sequence that ended since `schedule` is computed once more and its result left.
    const rows = sequences.map(({ tokenIds, computed }) => ({ tokenIds: [tokenIds[computed]!], computed }));
    const result = await this.runner.run({ firstSlot, rows, logits: 'last', isFree: (slot) => this.scheduler.isFree(slot) });
    // What goes wrong in one row, such as logits that are not numbers, is no fault of its neighbours.
    for (const [i, sequence] of sequences.entries())
      await this.guarded([sequence], async () => this.decoded(sequence, rowOf(result, i, sequences.length)));
  }

  private decoded(sequence: Sequence, { logits, auxHiddenStates }: Pick<RunResult, 'logits' | 'auxHiddenStates'>): void {
    const { ended, observer, computed } = sequence;
    if (ended) return;
    observer.onLogits?.(computed, logits);
    observer.onAuxHiddenStates?.(computed, 1, auxHiddenStates);
    sequence.computed++;
    this.take(sequence, logits);
  }

  /** Samples the next token and passes it on. */
  private take(sequence: Sequence, logits: Float32Array): void {
    const forced = sequence.observer.forcedTokenIds?.[sequence.tokenIds.length - sequence.promptLength];
    const sampled = sequence.sampler.sample(logits, forced);
    this.counters.generationTokens++;
    sequence.append(sampled);
  }

  private parse(request: GenerateRequest): z.output<typeof GenerateRequest> {
    if (this.closing !== null) throw new EngineClosedError();
    const parsed = GenerateRequest.safeParse(request);
    if (parsed.success) return parsed.data;
    const { what, where, fix } = describeIssue(parsed.error, Object.keys(SamplingParams.shape));
    throw new InvalidRequestError(what, where || 'request', fix);
  }

  private createSequence({ promptIds, images, sampling, takenAt, observer }: SequenceParts): Sequence {
    if (this.closing !== null) throw new EngineClosedError(); // while images were decoded
    const { maxModelLength, vocabSize } = this.info;
    const { tokenizer } = this.text;
    const { eosTokenIds, processors, scratch } = this;
    const sampler = new Sampler(sampling, { vocabSize, promptIds, processors, scratch });
    return new Sequence({ promptIds, images, sampling, sampler, tokenizer, eosTokenIds, maxModelLength, takenAt, observer });
  }

  private release(sequence: Sequence): void {
    sequence.cancel();
    this.scheduler.remove(sequence);
  }
}

/** @throws EngineConfigError for a preprocessor_config.json that does not fit. */
async function openPromptReader(checkpoint: Checkpoint, loaded: LoadedModel, info: EngineInfo, text: ModelText): Promise<PromptReader> {
  const { model, imageLimits, maxModelLength, vocabSize } = info;
  const { tower, family } = loaded;
  const images =
    info.readsImages && tower && family.images ? await ImageReader.open(checkpoint.path, tower, family.images, imageLimits) : null;
  return new PromptReader({ model, text, images, imageLimits, maxModelLength, vocabSize });
}

interface EngineParts {
  loaded: LoadedModel;
  info: EngineInfo;
  config: EngineConfig;
  platform: SelectedPlatform;
  container: EngineContainer;
  text: ModelText;
  prompts: PromptReader;
  events: EventBus<EngineEvents> | undefined;
  policy: SchedulerPolicy;
  processors: readonly LogitsProcessor[];
}

type SequenceParts = Pick<Required<SequenceOptions>, 'promptIds' | 'images' | 'sampling' | 'takenAt' | 'observer'>;

/** A reload that is under way. */
interface Reloading {
  readonly model: string;
  /** Aborted when the engine closes. */
  readonly closed: AbortController;
  readonly ended: Promise<ReloadReport>;
}

/** Waits for `promise`, at most until the signal. @throws the signal's reason. */
async function unlessAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  let stop = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    const onAbort = (): void => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    stop = () => signal.removeEventListener('abort', onAbort);
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    stop();
  }
}

/** Row `i` of a run of one token a row. */
function rowOf({ vocabSize, logits, auxHiddenStates }: RunResult, i: number, rows: number): Pick<RunResult, 'logits' | 'auxHiddenStates'> {
  const part = (all: Float32Array, width: number): Float32Array => all.subarray(i * width, (i + 1) * width);
  return { logits: part(logits, vocabSize), auxHiddenStates: auxHiddenStates.map((state) => part(state, state.length / rows)) };
}

function closing(checkpoint: Checkpoint): Checkpoint & Disposable {
  return Object.assign(checkpoint, { [Symbol.dispose]: () => checkpoint.close() });
}
