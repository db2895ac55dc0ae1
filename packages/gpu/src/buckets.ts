import type { Bucket, BucketPolicy, RunnerParts } from '@graft/engine';

/** Prompts below this are padded to it. */
const leastQuery = 16;

/**
 * The buckets of an engine on a GPU: prompts of one sequence with 16, 32, ... tokens up to those of a piece, and decoding of 1, 2, 4, ... sequences up to the
 * served ones. The lengths of the caches are no buckets: the program has a graph for each of them.
 */
export function gpuBuckets({ config, context }: Pick<RunnerParts, 'config' | 'context'>): BucketPolicy {
  const most = context.maxModelLength;
  const longest = Math.min(config.prefillTokens, most);
  const prompts = doubled(Math.min(leastQuery, longest), longest).map((query): Bucket => ({ batch: 1, query, context: most }));
  const decoding = doubled(1, config.maxSequences).map((batch): Bucket => ({ batch, query: 1, context: most }));
  return { buckets: [...decoding, ...prompts.filter(({ query }) => query > 1)] };
}

/** `from`, its doubles, and `to`. */
function doubled(from: number, to: number): number[] {
  return from >= to ? [to] : [from, ...doubled(from * 2, to)];
}
