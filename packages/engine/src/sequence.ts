import type { PromptImages } from './image/prompt-images.ts';
import type { FinishReason, TokenDelta, TokenLogprob } from './request.ts';
import type { SampledToken, Sampler } from './sampler.ts';
import type { SamplingParams } from './sampling-params.ts';
import { Detokenizer } from './text/detokenizer.ts';
import { StopStrings } from './text/stop-strings.ts';
import type { Tokenizer } from './text/tokenizer.ts';

/** What a verification tool may watch and force on one sequence; in process only. Arrays are valid during the call. */
export interface SequenceObserver {
  /** Tokens that are taken instead of the sampled ones. */
  forcedTokenIds?: readonly number[];
  /** Also give the logits of every prompt position. */
  promptLogits?: boolean;
  /** The logits `[vocabSize]` that follow the token at `position`. */
  onLogits?(position: number, logits: Float32Array): void;
  /** The residual streams of `count` tokens from `start` on: for each layer that was asked for, `[count, hidden]`. */
  onAuxHiddenStates?(start: number, count: number, states: readonly Float32Array[]): void;
  /** What the vision tower gave for the prompt's images, `[tiles * tokens, hidden]`. */
  onImageFeatures?(features: Float32Array): void;
}

export interface SequenceOptions {
  promptIds: readonly number[];
  images?: PromptImages | null;
  /** When the request came, as `performance.now()` says it: decoding its images is a part of what it waits. Default: now. */
  takenAt?: number;
  sampling: SamplingParams;
  sampler: Sampler;
  tokenizer: Tokenizer | null;
  eosTokenIds: ReadonlySet<number>;
  maxModelLength: number;
  observer: SequenceObserver;
}

/** One request's tokens: what is computed, what was chosen, what may be shown. Its deltas are read from `stream`. */
export class Sequence {
  readonly tokenIds: number[];
  readonly promptLength: number;
  readonly sampler: Sampler;
  readonly observer: SequenceObserver;
  readonly stream: ReadableStream<TokenDelta>;
  readonly abort = new AbortController();
  /** Kept until the prompt is computed. */
  images: PromptImages | null;
  /** Slot in the KV cache; null while it waits. */
  slot: number | null = null;
  /** Tokens whose keys and values are in the cache. */
  computed = 0;
  ended = false;
  private readonly options: SequenceOptions;
  private readonly stopStrings: StopStrings;
  private readonly detokenizer: Detokenizer | null;
  readonly takenAt: number;
  private startedAt = 0;
  private firstTokenAt = 0;
  private controller!: ReadableStreamDefaultController<TokenDelta>;

  constructor(options: SequenceOptions) {
    this.options = options;
    this.tokenIds = [...options.promptIds];
    this.promptLength = options.promptIds.length;
    this.images = options.images ?? null;
    this.takenAt = options.takenAt ?? performance.now();
    this.sampler = options.sampler;
    this.observer = options.observer;
    this.stopStrings = new StopStrings(options.sampling.stop);
    this.detokenizer = options.tokenizer === null ? null : new Detokenizer(options.tokenizer);
    this.stream = new ReadableStream<TokenDelta>({
      start: (controller) => void (this.controller = controller),
      cancel: () => this.cancel(),
    });
  }

  get decoding(): boolean {
    return this.computed === this.tokenIds.length - 1 && this.computed >= this.promptLength;
  }

  start(slot: number): void {
    this.slot = slot;
    this.startedAt = performance.now();
  }

  /** Takes the token that follows the last one. */
  append(sampled: SampledToken): void {
    if (this.firstTokenAt === 0) this.firstTokenAt = performance.now();
    const { tokenId } = sampled;
    this.tokenIds.push(tokenId);
    const end = this.endAt(tokenId);
    // A token that ends the answer is no part of its text, whether it is a special one or not.
    const { emit, matched } = this.stopStrings.push(end?.[0] === 'stop' ? '' : (this.detokenizer?.push(tokenId) ?? ''));
    const [finishReason, stopReason] = matched !== null ? (['stop', matched] as const) : (end ?? [null, null]);
    const held = finishReason !== null && matched === null ? this.flushText() : '';
    this.emit({ text: emit + held, tokenIds: [tokenId], ...this.logprobsOf(sampled), finishReason, stopReason });
    if (finishReason !== null) this.end();
  }

  fail(error: unknown): void {
    if (this.ended) return;
    this.ended = true;
    this.controller.error(error);
  }

  /** Nobody reads the stream any more. */
  cancel(): void {
    this.ended = true;
    this.abort.abort();
  }

  private get generated(): number {
    return this.tokenIds.length - this.promptLength;
  }

  private endAt(tokenId: number): [FinishReason, number | null] | null {
    const { sampling, eosTokenIds, maxModelLength } = this.options;
    if (!sampling.ignoreEos && eosTokenIds.has(tokenId)) return ['stop', null];
    if (sampling.stopTokenIds.includes(tokenId)) return ['stop', tokenId];
    if (this.generated === sampling.maxTokens || this.tokenIds.length >= maxModelLength) return ['length', null];
    return null;
  }

  private flushText(): string {
    const { emit, matched } = this.stopStrings.push(this.detokenizer?.flush() ?? '');
    return matched === null ? emit + this.stopStrings.flush() : emit;
  }

  private logprobsOf({ tokenId, logprob, top }: SampledToken): { logprobs?: TokenLogprob[] } {
    if (logprob === null) return {};
    const named = (id: number): string => this.options.tokenizer?.decode([id], { skipSpecialTokens: false }) ?? '';
    return {
      logprobs: [{ tokenId, token: named(tokenId), logprob, top: top.map((entry) => ({ ...entry, token: named(entry.tokenId) })) }],
    };
  }

  private emit(delta: Omit<TokenDelta, 'usage' | 'timing'>): void {
    const usage = { promptTokens: this.promptLength, completionTokens: this.generated };
    this.controller.enqueue(delta.finishReason === null ? { ...delta, usage } : { ...delta, usage, timing: this.timing() });
  }

  private timing(): NonNullable<TokenDelta['timing']> {
    const { takenAt, startedAt, firstTokenAt } = this;
    return { queuedMs: startedAt - takenAt, firstTokenMs: firstTokenAt - takenAt, totalMs: performance.now() - takenAt };
  }

  private end(): void {
    this.ended = true;
    this.controller.close();
  }
}
