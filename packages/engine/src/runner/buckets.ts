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
    if (fits && (best === null || isLessPadded(bucket, best))) best = bucket;
  }
  return best;
}

function isLessPadded(a: Bucket, b: Bucket): boolean {
  const more = a.batch * a.query - b.batch * b.query;
  return more < 0 || (more === 0 && a.context < b.context);
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

/** Rows that follow one another, computed together in one bucket. */
export interface DecodeWindow {
  readonly bucket: Bucket;
  /** Of the rows given: the first, and how many. */
  readonly start: number;
  readonly count: number;
}

export interface DecodeRows {
  /** Row i stands on slot `firstSlot + i`. */
  readonly firstSlot: number;
  /** Tokens of each row in the cache. */
  readonly computed: readonly number[];
  /** Whether a row of padding may stand on this slot. */
  isFree(slot: number): boolean;
}

/**
 * How rows of one token each are computed in buckets. Rows of padding come after the real ones and stand on the slots that follow; where one of these is
 * not free, and where no batch is large enough, the rows are split.
 */
export function decodeWindows(buckets: readonly Bucket[], { firstSlot, computed, isFree }: DecodeRows): DecodeWindow[] {
  const decode = buckets.filter(({ query }) => query === 1);
  const windows: DecodeWindow[] = [];
  for (let start = 0; start < computed.length; start += windows.at(-1)!.count) {
    const rest = computed.length - start;
    const allowed = decode.filter(({ batch }) => slotsFree(firstSlot + start + Math.min(rest, batch), firstSlot + start + batch, isFree));
    windows.push({ start, ...windowFrom(allowed, computed.slice(start)) });
  }
  return windows;
}

/** All rows in one bucket where one holds them, else as many as possible. */
function windowFrom(buckets: readonly Bucket[], computed: readonly number[]): Omit<DecodeWindow, 'start'> {
  for (let count = computed.length; ; count--) {
    const bucket = leastPadded(count === computed.length ? buckets : buckets.filter(({ batch }) => batch === count), {
      batch: count,
      query: 1,
      context: Math.max(...computed.slice(0, count)),
    });
    if (bucket !== null) return { bucket, count }; // at the latest with one row: `requireSmallestBucket`
  }
}

function slotsFree(from: number, to: number, isFree: (slot: number) => boolean): boolean {
  for (let slot = from; slot < to; slot++) if (!isFree(slot)) return false;
  return true;
}
