import type { AnswerSink } from './answer.ts';
import type { PromptImages } from './image/prompt-images.ts';
import type { LogitsProcessor } from './logits-processors.ts';
import type { ReadPrompt } from './prompt-reader.ts';
import type { FinishReason, TokenLogprob } from './request.ts';
import type { RunResult, RunRow, RunStep } from './runner/model-runner.ts';
import { type SampledToken, Sampler, type SamplerScratch } from './sampler.ts';
import type { SamplingParams } from './sampling-params.ts';
import { Detokenizer } from './text/detokenizer.ts';
import { StopStrings } from './text/stop-strings.ts';
import type { Tokenizer } from './text/tokenizer.ts';

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** Lets a verification tool observe and steer one sequence, in process only. Arrays are valid only during the call. */
export interface SequenceObserver {
  /** Taken instead of the sampled tokens. */
  forcedTokenIds?: readonly number[];
  /** Whether to report the logits of every prompt position. */
  promptLogits?: boolean;
  /** The logits `[vocabSize]` that follow the token at `position`. */
  onLogits?(position: number, logits: Float32Array): void;
  /** The residual streams of `count` tokens from `start` on: `[count, hidden]` for each requested layer. */
  onAuxHiddenStates?(start: number, count: number, states: readonly Float32Array[]): void;
  /** The vision tower's features of the prompt's images, `[tiles * tokens, hidden]`. */
  onImageFeatures?(features: Float32Array): void;
}

/** State shared by all sequences of an engine. */
export interface SharedBySequences {
  readonly tokenizer: Tokenizer | null;
  readonly eosTokenIds: ReadonlySet<number>;
  readonly maxModelLength: number;
  readonly vocabSize: number;
  readonly processors: readonly LogitsProcessor[];
  readonly scratch: SamplerScratch;
  /** Computed prompt tokens, and generated tokens. */
  readonly counts: { promptTokens: number; generationTokens: number };
}

export interface SequenceOptions extends ReadPrompt {
  sampling: SamplingParams;
  /** Gets the deltas, and the error that ends it. */
  sink: AnswerSink;
  shared: SharedBySequences;
  observer?: SequenceObserver;
  /** Arrival of the request, by `performance.now()`; the wait includes the decoding of its images. Default: now. */
  takenAt?: number;
}

/** The tokens of one request: which are computed, which were chosen, and which text may be shown. */
export class Sequence {
  readonly tokenIds: number[];
  readonly promptLength: number;
  readonly observer: SequenceObserver;
  readonly abort = new AbortController();
  readonly takenAt: number;
  /** Null once the prompt is computed. */
  images: PromptImages | null;
  /** Slot in the KV cache; null while waiting. */
  slot: number | null = null;
  /** Tokens whose keys and values are in the cache. */
  computed = 0;
  ended = false;
  private readonly sampling: SamplingParams;
  private readonly sink: AnswerSink;
  private readonly shared: SharedBySequences;
  private readonly sampler: Sampler;
  private readonly stopStrings: StopStrings;
  private readonly detokenizer: Detokenizer | null;
  private startedAt = 0;
  private firstTokenAt = 0;

  /** @throws the errors of logits processors for these parameters. */
  constructor({ promptIds, images, sampling, sink, shared, observer = {}, takenAt = performance.now() }: SequenceOptions) {
    this.tokenIds = [...promptIds];
    this.promptLength = promptIds.length;
    this.images = images;
    this.sampling = sampling;
    this.sink = sink;
    this.shared = shared;
    this.observer = observer;
    this.takenAt = takenAt;
    this.sampler = new Sampler(sampling, { ...shared, promptIds });
    this.stopStrings = new StopStrings(sampling.stop);
    this.detokenizer = shared.tokenizer === null ? null : new Detokenizer(shared.tokenizer);
  }

  /** Tokens that are not computed yet. */
  get uncomputed(): number {
    return this.tokenIds.length - this.computed;
  }

  get decoding(): boolean {
    return this.computed >= this.promptLength;
  }

  start(slot: number): void {
    this.slot = slot;
    this.startedAt = performance.now();
  }

  /** The next `count` tokens as a row of a run, the last of them `draft`, with the features of the images among them. */
  piece(count: number, draft: readonly number[] = []): { row: RunRow; step: Pick<RunStep, 'imageFeatures'> } {
    const { computed } = this;
    const images = this.images?.piece(computed, count);
    const tokenIds = [...this.tokenIds.slice(computed, computed + count - draft.length), ...draft];
    return { row: { tokenIds, computed, ...images?.row }, step: images?.step ?? {} };
  }

  /** Takes a run's result for the next `count` tokens. @returns the logits of the token after them; null while tokens remain to be computed. */
  advance(count: number, { vocabSize, logits, auxHiddenStates }: RunResult): Float32Array | null {
    const { observer, computed } = this;
    const isPrompt = !this.decoding;
    if (isPrompt) this.shared.counts.promptTokens += count;
    this.computed += count;
    const isComplete = this.uncomputed === 0;
    const rows = logits.length / vocabSize;
    for (let row = 0; row < rows && observer.onLogits !== undefined; row++) {
      if (isComplete || observer.promptLogits === true)
        observer.onLogits(this.computed - rows + row, logits.subarray(row * vocabSize, (row + 1) * vocabSize));
    }
    observer.onAuxHiddenStates?.(computed, count, auxHiddenStates);
    if (!isComplete) return null;
    if (isPrompt) this.dropImages();
    return logits.subarray(logits.length - vocabSize);
  }

  /** Chooses the next token. @throws LogitsInvalidError */
  sample(logits: Float32Array): SampledToken {
    return this.sampler.sample(logits, this.observer.forcedTokenIds?.[this.generated]);
  }

  /** Appends the token and sends the text that may be shown. */
  emit(sampled: SampledToken): void {
    if (this.firstTokenAt === 0) this.firstTokenAt = performance.now();
    const { tokenId } = sampled;
    this.tokenIds.push(tokenId);
    this.shared.counts.generationTokens++;
    const end = this.endAt(tokenId);
    // A token that ends the answer is not part of its text, special or not.
    const { emit, matched } = this.stopStrings.push(end?.[0] === 'stop' ? '' : (this.detokenizer?.push(tokenId) ?? ''));
    const [finishReason, stopReason] = matched !== null ? (['stop', matched] as const) : (end ?? [null, null]);
    const held = finishReason !== null && matched === null ? this.flushText() : '';
    const usage = { promptTokens: this.promptLength, completionTokens: this.generated };
    const delta = { text: emit + held, tokenIds: [tokenId], ...this.logprobsOf(sampled), finishReason, stopReason, usage };
    if (finishReason !== null) this.end();
    this.sink.push(finishReason === null ? delta : { ...delta, timing: this.timing() });
  }

  fail(error: unknown): void {
    if (this.ended) return;
    this.end();
    this.sink.fail(error);
  }

  /** The caller no longer waits for the answer. */
  cancel(): void {
    this.end();
    this.abort.abort();
  }

  /** Tokens that it may still have. */
  get remaining(): number {
    return Math.min(
      (this.sampling.maxTokens ?? Number.POSITIVE_INFINITY) - this.generated,
      this.shared.maxModelLength - this.tokenIds.length,
    );
  }

  private get generated(): number {
    return this.tokenIds.length - this.promptLength;
  }

  private endAt(tokenId: number): [FinishReason, number | null] | null {
    const { stopTokenIds, ignoreEos } = this.sampling;
    const { eosTokenIds } = this.shared;
    if (!ignoreEos && eosTokenIds.has(tokenId)) return ['stop', null];
    if (stopTokenIds.includes(tokenId)) return ['stop', tokenId];
    if (this.remaining <= 0) return ['length', null];
    return null;
  }

  private flushText(): string {
    const { emit, matched } = this.stopStrings.push(this.detokenizer?.flush() ?? '');
    return matched === null ? emit + this.stopStrings.flush() : emit;
  }

  private logprobsOf({ tokenId, logprob, top }: SampledToken): { logprobs?: TokenLogprob[] } {
    if (logprob === null) return {};
    const { tokenizer } = this.shared;
    const named = (id: number): string => (tokenizer === null ? '' : utf8.decode(tokenizer.piece(id).bytes));
    return {
      logprobs: [{ tokenId, token: named(tokenId), logprob, top: top.map((entry) => ({ ...entry, token: named(entry.tokenId) })) }],
    };
  }

  private timing() {
    const { takenAt, startedAt, firstTokenAt } = this;
    return { queuedMs: startedAt - takenAt, firstTokenMs: firstTokenAt - takenAt, totalMs: performance.now() - takenAt };
  }

  private end(): void {
    this.ended = true;
    this.dropImages();
  }

  private dropImages(): void {
    this.images?.[Symbol.dispose]();
    this.images = null;
  }
}
