import { inject, injectable } from '@graft/registry';
import type { LogitsProcessor } from './logits-processors.ts';
import { LogitsProcessors, SchedulerPolicy as SchedulerPolicyToken } from './tokens.ts';

/** A sequence that waits for a slot, as policies see it. */
export interface WaitingSequence {
  readonly promptLength: number;
  /** Arrival of its request, by `performance.now()`. */
  readonly takenAt: number;
}

/** Decides what the next step computes, within what the model and its runner allow. */
export interface SchedulerPolicy {
  /**
   * Chooses the sequence that gets the free slot.
   * @param waiting at least one sequence, in the order of arrival.
   */
  next<S extends WaitingSequence>(waiting: readonly S[]): S;
  /**
   * The number of tokens in a prompt's next piece, at least 1; capped at `limit`.
   * @param decoding sequences that get a token in the same step, after this piece.
   */
  prefillTokens(step: { readonly limit: number; readonly decoding: number }): number;
}

/** First come, first served, in the longest possible pieces. */
export class FirstComeFirstServed implements SchedulerPolicy {
  next<S extends WaitingSequence>(waiting: readonly S[]): S {
    return waiting[0]!;
  }

  prefillTokens({ limit }: { readonly limit: number }): number {
    return limit;
  }
}

/** The policies of the step loop: when a sequence is computed, and how its logits change. */
@injectable()
export class SequencePolicies {
  readonly scheduler: SchedulerPolicy;
  readonly processors: readonly LogitsProcessor[];

  constructor(@inject(SchedulerPolicyToken) scheduler: SchedulerPolicy, @inject(LogitsProcessors) processors: readonly LogitsProcessor[]) {
    this.scheduler = scheduler;
    this.processors = processors;
  }
}
