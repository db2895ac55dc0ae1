import { callPlugin } from './call-plugin.ts';
import { SchedulerPolicyError } from './errors.ts';
import type { KvCachePlan } from './kv-cache.ts';
import type { PromptLookup } from './prompt-lookup.ts';
import type { SchedulerPolicy } from './scheduler-policy.ts';
import type { Sequence } from './sequence.ts';

/**
 * The work of one run: a piece of one prompt, or one token of each decoding sequence. The sequences are in contiguous slots, lowest first. The batch keeps the first
 * slot, because a sequence that ends before the run loses its slot.
 */
export interface Batch {
  readonly firstSlot: number;
  readonly sequences: readonly Sequence[];
  /** Tokens of each. */
  readonly count: number;
  /** For a sequence that decodes alone: the last of these tokens, which are proposed. The run may choose others. */
  readonly draft?: readonly number[];
}

export interface SchedulerOptions {
  maxSequences: number;
  /** Tokens of a prompt in one piece. */
  prefillTokens: number;
  kvCache: KvCachePlan;
  policy: SchedulerPolicy;
  /** Proposes tokens to a sequence that decodes alone. Left out: none. */
  lookup?: Pick<PromptLookup, 'propose'>;
}

/** Continuous batching with chunked prefill, in the order of a policy. A long prompt delays decoding sequences by at most one piece. */
export class Scheduler {
  private readonly waiting: Sequence[] = [];
  private readonly running: Sequence[] = [];
  private readonly options: SchedulerOptions;
  private held = false;

  constructor(options: SchedulerOptions) {
    this.options = options;
  }

  get counts(): { running: number; waiting: number; freeSlots: number } {
    return { running: this.running.length, waiting: this.waiting.length, freeSlots: this.options.maxSequences - this.running.length };
  }

  /** Whether no sequence holds the slot. A free slot stays free until the next `schedule`. */
  isFree(slot: number): boolean {
    return this.running.every((sequence) => sequence.slot !== slot);
  }

  get hasWork(): boolean {
    return this.running.length > 0 || (this.waiting.length > 0 && !this.held);
  }

  /** Until `release`, no waiting sequence starts. Running sequences run to their end. */
  hold(): void {
    this.held = true;
  }

  release(): void {
    this.held = false;
  }

  /** All waiting and running sequences. */
  sequences(): Sequence[] {
    return [...this.waiting, ...this.running];
  }

  add(sequence: Sequence): void {
    this.waiting.push(sequence);
  }

  /** Frees the sequence's slot, even during a run: only `schedule` gives the slot to another sequence. */
  remove(sequence: Sequence): void {
    drop(this.waiting, sequence);
    if (drop(this.running, sequence)) sequence.slot = null;
  }

  /** The next step's runs: at most one piece of a prompt, and one token of every decoding sequence. First, waiting sequences take the slots of those that ended. */
  schedule(): Batch[] {
    for (const sequence of this.running.filter(({ ended }) => ended)) this.remove(sequence);
    this.admit();
    const decoding = this.running.filter((sequence) => sequence.decoding);
    const prefilling = this.running.find((sequence) => !sequence.decoding);
    if (decoding.length === 1 && prefilling === undefined) return [this.alone(decoding[0]!)];
    const decode = contiguous(decoding);
    if (prefilling === undefined) return decode;
    return [{ firstSlot: prefilling.slot!, sequences: [prefilling], count: this.pieceOf(prefilling, decoding.length) }, ...decode];
  }

  private admit(): void {
    while (this.waiting.length > 0 && !this.held && this.running.length < this.options.maxSequences) {
      const waiting = [...this.waiting]; // a policy may sort or empty what it gets
      const sequence = this.decide('next', () => this.options.policy.next(waiting));
      if (!drop(this.waiting, sequence))
        throw new SchedulerPolicyError('next() returned a sequence that is not waiting', this.options.policy);
      let slot = 0;
      while (!this.isFree(slot)) slot++; // the lowest keeps active sequences close together
      sequence.start(slot);
      this.running.push(sequence);
    }
  }

  private alone(sequence: Sequence): Batch {
    const { kvCache, lookup } = this.options;
    const draft = lookup?.propose(sequence, kvCache.roomAfter(sequence.computed)) ?? [];
    return { firstSlot: sequence.slot!, sequences: [sequence], count: 1 + draft.length, draft };
  }

  private pieceOf({ uncomputed, computed }: Sequence, decoding: number): number {
    const { prefillTokens, kvCache } = this.options;
    const limit = Math.min(prefillTokens, uncomputed, kvCache.roomAfter(computed));
    const tokens = this.decide('prefillTokens', () => this.options.policy.prefillTokens({ limit, decoding }));
    if (!(tokens >= 1)) throw new SchedulerPolicyError(`prefillTokens() returned ${tokens}`, this.options.policy);
    return Math.min(limit, Math.floor(tokens));
  }

  private decide<T>(method: string, decision: () => T): T {
    return callPlugin(decision, (what, cause) => new SchedulerPolicyError(`${method}() ${what}`, this.options.policy, cause));
  }
}

function drop(list: Sequence[], sequence: Sequence): boolean {
  const index = list.indexOf(sequence);
  if (index >= 0) list.splice(index, 1);
  return index >= 0;
}

/** Batches of one token each, of sequences in contiguous slots. */
function contiguous(sequences: readonly Sequence[]): Batch[] {
  const batches: { firstSlot: number; sequences: Sequence[]; count: 1 }[] = [];
  for (const sequence of [...sequences].sort((a, b) => a.slot! - b.slot!)) {
    const batch = batches.at(-1);
    if (batch !== undefined && batch.firstSlot + batch.sequences.length === sequence.slot) batch.sequences.push(sequence);
    else batches.push({ firstSlot: sequence.slot!, sequences: [sequence], count: 1 });
  }
  return batches;
}
