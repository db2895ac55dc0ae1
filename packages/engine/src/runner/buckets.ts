import { EngineConfigError } from '../errors.ts';

/** A static shape that a graph is made for. */
export interface Bucket {
  /** Sequences in the step. */
  readonly batch: number;
  /** Tokens of each of them. */
  readonly query: number;
  /** Tokens of each in the cache before the step, at most. Buckets that differ in it alone share a graph. */
  readonly context: number;
}

export interface BucketPolicy {
  /** One of them has batch 1, query 1 and a context for every sequence that is served: whatever fits no other is computed with it. */
  readonly buckets: readonly Bucket[];
  /** Those of them that are made before `ready`. Default: all. */
  readonly warmUp?: readonly Bucket[];
}

export const shapeOf = ({ batch, query }: Pick<Bucket, 'batch' | 'query'>): string => `${batch}x${query}`;

/** One bucket of each graph, that with the least context: a run of it tries the graph for all of them. */
export function oneOfEachGraph(buckets: readonly Bucket[]): Bucket[] {
  const least = new Map<string, Bucket>();
  for (const bucket of buckets) {
    const known = least.get(shapeOf(bucket));
    if (known === undefined || bucket.context < known.context) least.set(shapeOf(bucket), bucket);
  }
  return [...least.values()];
}

/** The least padded bucket that holds what a step needs; null: none does. */
export function leastPadded<B extends Bucket>(buckets: readonly B[], { batch, query, context }: Bucket): B | null {
  let best: B | null = null;
  for (const bucket of buckets) {
    const fits = bucket.batch >= batch && bucket.query >= query && bucket.context >= context;
    const more = best === null ? -1 : bucket.batch * bucket.query - best.batch * best.query || bucket.context - best.context;
    if (fits && more < 0) best = bucket;
  }
  return best;
}

/** @throws EngineConfigError when there are sequences that no bucket serves. */
export function requireSmallestBucket({ buckets }: BucketPolicy, maxModelLength: number): void {
  const context = maxModelLength - 1;
  if (buckets.some((bucket) => shapeOf(bucket) === '1x1' && bucket.context >= context)) return;
  throw new EngineConfigError(
    `No bucket has batch 1, query 1 and a context of ${context}, so a sequence of ${maxModelLength} tokens could not be served.`,
    'buckets',
    'add it to the buckets of the platform, or serve a smaller maxModelLength.',
  );
}
