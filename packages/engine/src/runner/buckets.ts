import { EngineConfigError } from '../errors.ts';

/** A static shape with a graph. */
export interface Bucket {
  /** Sequences in the step. */
  readonly batch: number;
  /** Tokens of each of them. */
  readonly query: number;
  /** The most tokens of each in the cache before the step. Buckets that differ only in this share a graph. */
  readonly context: number;
}

export interface BucketPolicy {
  /** One bucket has batch 1, query 1 and enough context for every sequence. It computes what fits no other bucket. */
  readonly buckets: readonly Bucket[];
  /** The buckets that are made before `ready`. Default: all. */
  readonly warmUp?: readonly Bucket[];
}

export const shapeOf = ({ batch, query }: Pick<Bucket, 'batch' | 'query'>): string => `${batch}x${query}`;

/** For each graph the bucket with the least context: one run of it tries the graph. */
export function oneOfEachGraph(buckets: readonly Bucket[]): Bucket[] {
  const least = new Map<string, Bucket>();
  for (const bucket of buckets) {
    const known = least.get(shapeOf(bucket));
    if (known === undefined || bucket.context < known.context) least.set(shapeOf(bucket), bucket);
  }
  return [...least.values()];
}

/** The bucket that holds a step with the least padding; null if no bucket holds it. */
export function leastPadded<B extends Bucket>(buckets: readonly B[], { batch, query, context }: Bucket): B | null {
  let best: B | null = null;
  for (const bucket of buckets) {
    const fits = bucket.batch >= batch && bucket.query >= query && bucket.context >= context;
    const more = best === null ? -1 : bucket.batch * bucket.query - best.batch * best.query || bucket.context - best.context;
    if (fits && more < 0) best = bucket;
  }
  return best;
}

/** @throws EngineConfigError if no bucket serves the longest sequence. */
export function requireSmallestBucket({ buckets }: BucketPolicy, maxModelLength: number): void {
  const context = maxModelLength - 1;
  if (buckets.some((bucket) => shapeOf(bucket) === '1x1' && bucket.context >= context)) return;
  throw new EngineConfigError(
    `No bucket has batch 1, query 1 and a context of ${context}, so a sequence of ${maxModelLength} tokens cannot be served.`,
    'buckets',
    'add it to the buckets of the platform, or serve a smaller maxModelLength.',
  );
}
