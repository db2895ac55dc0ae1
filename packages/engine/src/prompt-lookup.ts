import type { Sequence } from './sequence.ts';

export interface PromptLookupOptions {
  /** The most tokens of a proposal; 0 makes none. */
  readonly numSpeculativeTokens: number;
  /** The most and the least tokens at the end whose last occurrence is looked up. */
  readonly promptLookupMax: number;
  readonly promptLookupMin: number;
}

/**
 * What followed the last occurrence of the latest tokens, for speculative decoding by prompt lookup (vLLM's method `ngram`; Saxena, 2023). The longest match wins,
 * then the last one.
 * @returns at most `numSpeculativeTokens` tokens; none without an occurrence.
 */
export function lookUp(
  tokenIds: readonly number[],
  { numSpeculativeTokens, promptLookupMax, promptLookupMin }: PromptLookupOptions,
): readonly number[] {
  const end = tokenIds.length;
  let [longest, at] = [promptLookupMin - 1, -1];
  for (let start = end - 1; start >= promptLookupMin && longest < promptLookupMax; start--) {
    let matched = 0;
    while (matched < Math.min(promptLookupMax, start) && tokenIds[start - 1 - matched] === tokenIds[end - 1 - matched]) matched++;
    if (matched > longest) [longest, at] = [matched, start];
  }
  return at < 0 ? [] : tokenIds.slice(at, at + numSpeculativeTokens);
}

/** The share of the latest observation in an average. */
const latest = 0.15;
const average = (before: number, now: number): number => before + latest * (now - before);

/** What is found for a sequence, and how often such tokens were the ones chosen. */
interface Lookup {
  found: readonly number[];
  hitRate: number;
}

/**
 * Proposes tokens for the step of a sequence that decodes alone: the run that computes its next token computes them too, and those that are then chosen need no
 * further run. A proposal has as many tokens as bring the most tokens a second: none where few are chosen, or where each one makes the run much longer.
 */
export class PromptLookup {
  /** Proposals, their tokens, and those of them that were chosen. */
  readonly counts = { numDrafts: 0, numDraftTokens: 0, numAcceptedTokens: 0 };
  private readonly options: PromptLookupOptions;
  private readonly exactRows: () => number;
  private readonly lookups = new WeakMap<Sequence, Lookup>();
  /** Milliseconds of a run of one token. 0: none ran yet. */
  private runMs = 0;
  /** What each further token adds to a run, as a share of a run of one token. */
  private tokenCost = 0.25;

  /** @param exactRows the most tokens of a run that are computed as in runs of one token; see `ModelRunner` */
  constructor(options: PromptLookupOptions, exactRows: () => number) {
    this.options = options;
    this.exactRows = exactRows;
  }

  /** @param room the tokens that the run may have. */
  propose(sequence: Sequence, room: number): readonly number[] {
    const most = Math.min(this.options.numSpeculativeTokens, Math.min(room, this.exactRows(), sequence.remaining) - 1);
    if (most < 1) return [];
    const lookup = this.lookups.get(sequence) ?? { found: [], hitRate: 0.5 };
    this.lookups.set(sequence, lookup);
    lookup.found = lookUp(sequence.tokenIds, { ...this.options, numSpeculativeTokens: most });
    return lookup.found.slice(0, this.runMs === 0 ? 0 : this.bestCount(lookup));
  }

  /** @param chosen the tokens that the sequence got in a run with `proposed` tokens that took `ms`. Their first ones are those proposed. */
  took(sequence: Sequence, proposed: number, chosen: number, ms: number): void {
    if (proposed === 0) {
      this.runMs = this.runMs === 0 ? ms : average(this.runMs, ms);
      this.tokenCost *= 0.99; // tried again some time
    } else {
      this.tokenCost = average(this.tokenCost, Math.min(1, Math.max(0, (ms / this.runMs - 1) / proposed)));
      this.counts.numDrafts++;
      this.counts.numDraftTokens += proposed;
      this.counts.numAcceptedTokens += Math.min(proposed, chosen - 1);
    }
    const lookup = this.lookups.get(sequence);
    if (lookup === undefined) return;
    const tokenIds = sequence.tokenIds.slice(sequence.tokenIds.length - chosen);
    for (const [i, tokenId] of lookup.found.slice(0, chosen).entries())
      lookup.hitRate = average(lookup.hitRate, tokenId === tokenIds[i] ? 1 : 0);
    lookup.found = [];
  }

  /** The tokens of a proposal by which the expected tokens of the run are the most for its time. */
  private bestCount({ found, hitRate }: Lookup): number {
    let [best, bestRate, expected, chance] = [0, 1, 1, 1];
    for (let count = 1; count <= found.length; count++) {
      chance *= hitRate;
      expected += chance;
      const rate = expected / (1 + count * this.tokenCost);
      if (rate > bestRate) [best, bestRate] = [count, rate];
    }
    return best;
  }
}
