import { basename } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { coreModels, openCheckpoint } from '@graft/core-model';
import { type EngineContainer, explain, type LoadedPlugins, loadPlugins, selectPlatform } from '@graft/registry';
import type { z } from 'zod';
import { defaultCacheDirectory, EngineConfig, graftVersion } from './config.ts';
import type { Engine, EngineInfo, EngineStats, LoadProgress } from './engine.ts';
import {
  EngineClosedError,
  EngineConfigError,
  InvalidRequestError,
  NoTokenizerError,
  PromptTooLongError,
  TokenOutOfRangeError,
} from './errors.ts';
import { type LoadedModel, loadModel } from './load-model.ts';
import { GenerateRequest, type Prompt, type TokenDelta } from './request.ts';
import { ModelRunner } from './runner/model-runner.ts';
import { Sampler, SamplerScratch } from './sampler.ts';
import { Scheduler, type Step } from './scheduler.ts';
import { Sequence, type SequenceObserver } from './sequence.ts';
import { type ModelText, openModelText } from './text/model-text.ts';

export interface StartEngine {
  onProgress?: (progress: LoadProgress) => void;
  signal?: AbortSignal;
  /** Plugins for an application whose package.json lists none, and where they are resolved from. */
  defaultPlugins?: readonly string[];
  defaultPluginsFrom?: string;
}

export interface GenerateOptions {
  signal?: AbortSignal;
  /** For verification: watch logits and residual streams, force tokens. */
  observer?: SequenceObserver;
}

/** The engine in process: requests become sequences, and a loop of steps (schedule, run, sample, emit) serves them together. */
export class LlmEngine implements Engine {
  readonly info: EngineInfo;
  private readonly loaded: LoadedModel;
  private readonly container: EngineContainer;
  private readonly text: ModelText;
  private readonly runner: ModelRunner;
  private readonly scheduler: Scheduler;
  private readonly eosTokenIds: ReadonlySet<number>;
  private readonly scratch: SamplerScratch;
  private readonly counters = { promptTokens: 0, generationTokens: 0 };
  private loop: Promise<void> | null = null;
  private closed = false;

  private constructor(loaded: LoadedModel, container: EngineContainer, text: ModelText, config: EngineConfig, info: EngineInfo) {
    this.loaded = loaded;
    this.container = container;
    this.text = text;
    this.info = info;
    this.runner = new ModelRunner(loaded.program, loaded.kvCache);
    this.scheduler = new Scheduler({ maxSequences: config.maxSequences, prefillTokens: config.prefillTokens, kvCache: loaded.kvCache });
    this.eosTokenIds = new Set([...loaded.config.eosTokenIds, ...(text.tokenizer?.eosTokenIds ?? []), ...text.eosTokenIds]);
    this.scratch = new SamplerScratch(loaded.config.vocabSize);
  }

  /**
   * Loads the plugins, chooses the platform, loads the model through the override path and is ready to serve.
   * @throws EngineConfigError and the errors of each step.
   */
  static async start(config: z.input<typeof EngineConfig>, options: StartEngine = {}): Promise<LlmEngine> {
    const parsed = parseConfig(config);
    const plugins = await loadEnginePlugins(parsed, options);
    const platform = await selectPlatform(plugins.platforms, parsed.platform);
    const container = plugins.createEngineContainer();
    const checkpoint = await openCheckpoint(parsed.model);
    try {
      const text = await openModelText(checkpoint);
      const cached = { ...parsed, cacheDirectory: parsed.cacheDirectory ?? defaultCacheDirectory() };
      const loaded = await loadModel({ plugins, container, platform, checkpoint, config: cached, ...options });
      return new LlmEngine(loaded, container, text, cached, infoOf(cached, loaded, plugins, platform.device, text));
    } catch (error) {
      await container[Symbol.asyncDispose]();
      throw error;
    } finally {
      checkpoint.close();
    }
  }

  /** See `Engine.generate`. */
  async *generate(request: GenerateRequest, { signal, observer = {} }: GenerateOptions = {}): AsyncGenerator<TokenDelta, void, void> {
    signal?.throwIfAborted();
    const sequence = this.createSequence(request, observer);
    const onAbort = (): void => {
      sequence.fail(signal?.reason);
      this.release(sequence);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      this.scheduler.add(sequence);
      this.loop ??= this.run().finally(() => (this.loop = null));
      for await (const delta of sequence.stream) yield delta;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.release(sequence);
    }
  }

  async tokenize(text: string): Promise<number[]> {
    return this.tokenizer().encode(text);
  }

  async stats(): Promise<EngineStats> {
    const { cache } = this.loaded.captured;
    return {
      ...this.scheduler.counts,
      ...this.counters,
      captures: cache.count(),
      compiles: this.loaded.program.facts.graphs,
      recompiles: cache.recompiles.length,
    };
  }

  /** Ends what runs and frees the model. Twice without harm. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.closed = true;
    for (const sequence of this.scheduler.sequences()) {
      sequence.fail(new EngineClosedError());
      this.release(sequence);
    }
    await this.loop;
    this.loaded.program[Symbol.dispose]();
    await this.container[Symbol.asyncDispose]();
  }

  private async run(): Promise<void> {
    while (this.scheduler.hasWork) {
      await this.step(this.scheduler.schedule());
      await setImmediate(); // aborts and new requests come in between two steps
    }
  }

  private async step({ prefill, decode }: Step): Promise<void> {
    if (prefill !== null) await this.guarded([prefill.sequence], () => this.prefill(prefill.sequence, prefill.count));
    for (const group of decode) await this.guarded(group, () => this.decode(group));
  }

  /** An error in a run ends the sequences of that run, not the engine. */
  private async guarded(sequences: readonly Sequence[], body: () => Promise<void>): Promise<void> {
    try {
      await body();
    } catch (error) {
      for (const sequence of sequences) sequence.fail(error);
    }
  }

  private async prefill(sequence: Sequence, count: number): Promise<void> {
    const { computed, tokenIds, observer, promptLength } = sequence;
    if (sequence.ended) return;
    const piece = tokenIds.slice(computed, computed + count);
    const logits = observer.promptLogits === true ? 'all' : 'last';
    const result = await this.runner.run({
      firstPlace: sequence.place!,
      rows: [{ tokenIds: piece, computed }],
      logits,
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
    const last = result.logits.subarray(result.logits.length - vocabSize);
    if (logits === 'last') observer.onLogits?.(promptLength - 1, last);
    this.take(sequence, last);
  }

  private async decode(group: readonly Sequence[]): Promise<void> {
    const alive = group.filter(({ ended }) => !ended);
    if (alive.length === 0) return;
    // The run needs contiguous places, so a sequence that ended since `schedule` is computed once more and its result left.
    const rows = group.map(({ tokenIds, computed }) => ({ tokenIds: [tokenIds[computed]!], computed }));
    const { vocabSize, logits, auxHiddenStates } = await this.runner.run({ firstPlace: firstPlaceOf(group), rows, logits: 'last' });
    for (const [i, sequence] of group.entries()) {
      if (sequence.ended) continue;
      const row = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
      const width = auxHiddenStates.map((state) => state.length / group.length);
      sequence.observer.onLogits?.(sequence.computed, row);
      sequence.observer.onAuxHiddenStates?.(
        sequence.computed,
        1,
        auxHiddenStates.map((state, s) => state.subarray(i * width[s]!, (i + 1) * width[s]!)),
      );
      sequence.computed++;
      this.take(sequence, row);
    }
  }

  /** Samples the next token and passes it on. */
  private take(sequence: Sequence, logits: Float32Array): void {
    const sampled = sequence.sampler.sample(logits);
    const forced = sequence.observer.forcedTokenIds?.[sequence.tokenIds.length - sequence.promptLength];
    this.counters.generationTokens++;
    sequence.append(forced === undefined ? sampled : { ...sampled, tokenId: forced });
  }

  private createSequence(request: GenerateRequest, observer: SequenceObserver): Sequence {
    if (this.closed) throw new EngineClosedError();
    const parsed = GenerateRequest.safeParse(request);
    if (!parsed.success) throw invalid(parsed.error);
    const { prompt, sampling } = parsed.data;
    const promptIds = this.promptIds(prompt);
    const { maxModelLength, vocabSize } = this.info;
    if (promptIds.length >= maxModelLength) throw new PromptTooLongError(promptIds.length, maxModelLength);
    const wrong = promptIds.find((id) => id >= vocabSize);
    if (wrong !== undefined) throw new TokenOutOfRangeError(wrong, vocabSize);
    const { tokenizer } = this.text;
    const sampler = new Sampler(sampling, { vocabSize, promptIds, scratch: this.scratch });
    return new Sequence({ promptIds, sampling, sampler, tokenizer, eosTokenIds: this.eosTokenIds, maxModelLength, observer });
  }

  private promptIds(prompt: Prompt): number[] {
    if ('tokenIds' in prompt) return prompt.tokenIds;
    const ids = 'text' in prompt ? this.tokenizer().encode(prompt.text) : this.chatIds(prompt.messages);
    if (ids.length === 0) throw new InvalidRequestError('The prompt is empty.', 'prompt');
    return ids;
  }

  private chatIds(messages: Extract<Prompt, { messages: unknown }>['messages']): number[] {
    if (this.text.template === null) throw new InvalidRequestError('This model has no chat template; use completions.', 'messages');
    return this.tokenizer().encode(this.text.template.render(messages), { addSpecialTokens: false });
  }

  private tokenizer(): NonNullable<ModelText['tokenizer']> {
    if (this.text.tokenizer === null) throw new NoTokenizerError(this.info.model);
    return this.text.tokenizer;
  }

  private release(sequence: Sequence): void {
    sequence.cancel();
    this.scheduler.remove(sequence);
  }
}

function firstPlaceOf(group: readonly Sequence[]): number {
  return group[0]!.place!;
}

/** The first issue, with the field's path. */
function invalid(error: z.ZodError): InvalidRequestError {
  const [issue] = error.issues;
  return new InvalidRequestError(issue?.message ?? 'It is not valid.', issue?.path.join('.') ?? 'request');
}

export function parseConfig(config: unknown): EngineConfig {
  const parsed = EngineConfig.safeParse(config);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new EngineConfigError(issue?.message ?? 'It is not valid.', issue?.path.join('.') ?? 'config');
}

/** The upstream models and the application's plugins. */
export function loadEnginePlugins(
  { app, plugins, allowPlugins }: Pick<EngineConfig, 'app' | 'plugins' | 'allowPlugins'>,
  { defaultPlugins, defaultPluginsFrom }: StartEngine,
): Promise<LoadedPlugins> {
  return loadPlugins({
    plugins: [coreModels],
    graftVersion,
    ...(app !== undefined && { from: app }),
    ...(plugins !== undefined && { specifiers: plugins }),
    ...(allowPlugins !== undefined && { allow: allowPlugins }),
    ...(defaultPlugins !== undefined && { defaults: defaultPlugins }),
    ...(defaultPluginsFrom !== undefined && { defaultsFrom: defaultPluginsFrom }),
  });
}

function infoOf(
  config: EngineConfig,
  loaded: LoadedModel,
  plugins: LoadedPlugins,
  device: EngineInfo['device'],
  { template }: ModelText,
): EngineInfo {
  const { resolution, context, model, timings } = loaded;
  const record = resolution.toJSON();
  return {
    model: config.servedModelName ?? basename(config.model).replace(/\.gguf$/, ''),
    architecture: resolution.architecture,
    modelClass: model.constructor.name,
    platform: context.platform,
    device,
    mode: context.mode,
    weights: commonFormat(loaded),
    maxModelLength: context.maxModelLength,
    maxSequences: config.maxSequences,
    vocabSize: loaded.config.vocabSize,
    hasChatTemplate: template !== null,
    resolution: record,
    explanation: explain(record),
    plugins: plugins.plugins.map(({ name }) => name),
    timings,
    createdAt: Math.floor(Date.now() / 1000),
  };
}

/** The storage format of most weights, by bytes of logical elements. */
function commonFormat({ model }: LoadedModel): string {
  const sizes = new Map<string, number>();
  for (const [, { dtype, shape }] of model.namedParameters()) {
    sizes.set(dtype, (sizes.get(dtype) ?? 0) + shape.reduce((product, dim) => product * dim, 1));
  }
  return [...sizes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 'none';
}
