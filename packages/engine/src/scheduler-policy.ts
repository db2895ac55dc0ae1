import { inject, injectable } from '@graft/registry';
import type { LogitsProcessor } from './logits-processors.ts';
import { LogitsProcessors, SchedulerPolicy as SchedulerPolicyToken } from './tokens.ts';

/** A sequence that waits for a slot, as a policy sees it. */
export interface WaitingSequence {
  readonly promptLength: number;
  /** When its request came, by `performance.now()`. */
  readonly takenAt: number;
}

/** Decides what the next step computes, within what the model and its runner allow. */
export interface SchedulerPolicy {
  /**
   * Which of those that wait gets the free slot.
   * @param waiting at least one, in the order in which they came.
   */
  next<S extends WaitingSequence>(waiting: readonly S[]): S;
  /**
   * Tokens of a prompt in the next piece, at least 1; more than `limit` count as `limit`.
   * @param decoding sequences that get a token in the same step, and wait for this piece.
   */
  prefillTokens(step: { readonly limit: number; readonly decoding: number }): number;
}

/** First come, first served, in the longest pieces that there may be. */
export class FirstComeFirstServed implements SchedulerPolicy {
  next<S extends WaitingSequence>(waiting: readonly S[]): S {
    return waiting[0]!;
  }

  prefillTokens({ limit }: { readonly limit: number }): number {
    return limit;
  }
}

/** What decides the course of sequences: when each is computed, and what its logits become. */
@injectable()
export class SequencePolicies {
  readonly scheduler: SchedulerPolicy;
  readonly processors: readonly LogitsProcessor[];

  constructor(@inject(SchedulerPolicyToken) scheduler: SchedulerPolicy, @inject(LogitsProcessors) processors: readonly LogitsProcessor[]) {
    this.scheduler = scheduler;
    this.processors = processors;
  }
}
