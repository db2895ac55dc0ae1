import type { Bucket, BucketPolicy, RunnerParts } from '@graft/engine';
import type { ServedSizes } from '@graft/registry';
import { HpuOptionError } from './options.ts';
import { type BucketRange, type BucketStrategy, type HpuPlatformOptions, parseHpuPlatformOptions } from './platform-options.ts';

/** A range whose defaults are filled in. */
export type FullRange = Required<BucketRange>;

/** The four ranges that the buckets of one engine are made from. */
export interface BucketRanges {
  readonly promptQuery: FullRange;
  readonly promptContext: FullRange;
  readonly decodeBatch: FullRange;
  readonly decodeContext: FullRange;
}

/**
 * The buckets of an engine: prompts as `(1, query, context)`, since attention over a past takes one sequence at a time, and decoding as
 * `(batch, 1, context)`; batch 1 x query 1 is always one of them. vllm_gaudi: `HPUBucketingManager`, where a step that fits none makes a new bucket and
 * compiles while the request waits. Here no step does: a prompt longer than the largest query is computed in pieces, more sequences than the largest
 * batch in several runs, and a sequence longer than the model's served length is refused when it comes.
 * Sorted by tokens.
 * @throws HpuOptionError for a range that is empty, or that the sizes served cannot use.
 */
export function hpuBuckets(options: HpuPlatformOptions, sizes: ServedSizes): Bucket[] {
  const ranges = bucketRanges(options, sizes);
  checkRanges(ranges, sizes);
  const of = (name: keyof BucketRanges) => bucketSizes(options.bucketing, ranges[name]);
  const buckets = [
    ...of('promptQuery').flatMap((query) => of('promptContext').map((context) => ({ batch: 1, query, context }))),
    ...[1, ...of('decodeBatch')].flatMap((batch) => of('decodeContext').map((context) => ({ batch, query: 1, context }))),
  ];
  const byShape = new Map(buckets.map((bucket) => [`${bucket.batch}x${bucket.query}@${bucket.context}`, bucket]));
  return [...byShape.values()].sort((a, b) => a.batch * a.query - b.batch * b.query || a.batch - b.batch || a.context - b.context);
}

/** The buckets that an engine's config asks for. @throws HpuOptionError */
export function hpuBucketPolicy({ config, context }: Pick<RunnerParts, 'config' | 'context'>): BucketPolicy {
  const { platformOptions, maxSequences, prefillTokens } = config;
  const { maxModelLength } = context;
  return { buckets: hpuBuckets(parseHpuPlatformOptions(platformOptions), { maxSequences, prefillTokens, maxModelLength }) };
}

/**
 * What is not given in the options comes from the sizes served. For 8 sequences, pieces of 256 tokens and `exponential`: queries of 16, 32, 64, 128 and
 * 256, batches of 1, 2, 4 and 8, which is 9 graphs. vllm_gaudi's smallest query is a block of the cache, 128, and its contexts are counted in blocks;
 * here they are tokens, and there are two for prompts (none, and any) and one for decoding, since a graph does not depend on them.
 */
export function bucketRanges(options: HpuPlatformOptions, { maxSequences, prefillTokens, maxModelLength }: ServedSizes): BucketRanges {
  const longestPiece = Math.min(prefillTokens, maxModelLength);
  const queryMin = Math.min(16, longestPiece);
  const queryStep = options.bucketing === 'linear' ? roundUp(longestPiece / 8, queryMin) : queryMin;
  const context = { min: 0, step: maxModelLength, max: maxModelLength };
  return {
    promptQuery: fullRange({ min: queryMin, step: queryStep, max: longestPiece }, options.promptQuery),
    promptContext: fullRange(context, options.promptContext),
    decodeBatch: fullRange({ min: 1, step: options.bucketing === 'linear' ? 2 : 1, max: maxSequences }, options.decodeBatch),
    decodeContext: fullRange({ ...context, min: maxModelLength }, options.decodeContext),
  };
}

function checkRanges(ranges: BucketRanges, { maxSequences, prefillTokens, maxModelLength }: ServedSizes): void {
  const longestPiece = Math.min(prefillTokens, maxModelLength);
  const most: Record<keyof BucketRanges, [number, string]> = {
    promptQuery: [longestPiece, `${longestPiece} tokens of a prompt in one piece (prefillTokens, maxModelLength)`],
    promptContext: [maxModelLength, `maxModelLength ${maxModelLength}`],
    decodeBatch: [maxSequences, `maxSequences ${maxSequences}`],
    decodeContext: [maxModelLength, `maxModelLength ${maxModelLength}`],
  };
  for (const name of ['promptQuery', 'promptContext', 'decodeBatch', 'decodeContext'] as const) {
    const { min, max } = ranges[name];
    const [limit, what] = most[name];
    if (max > limit)
      throw new HpuOptionError(`${name}.max ${max} is more than ${what}.`, `platformOptions.${name}`, 'lower it, or leave it out.');
    if (min > max)
      throw new HpuOptionError(`${name}.min ${min} is more than its max ${max}.`, `platformOptions.${name}`, 'lower min, or leave it out.');
  }
}

/** A range whose `max` was lowered takes a default `min` and `step` along. */
function fullRange(defaults: Pick<FullRange, 'min' | 'step' | 'max'>, given: BucketRange = {}): FullRange {
  const max = given.max ?? defaults.max;
  const min = given.min ?? Math.min(defaults.min, max);
  const step = given.step ?? Math.min(defaults.step, Math.max(max, 1));
  return { min, step, max, padMax: given.padMax ?? Math.ceil(max / 4), padPercent: given.padPercent ?? 25 };
}

/** The sizes of one range, ascending and without repeats; its first is `min`, its last `max`. */
export function bucketSizes(strategy: BucketStrategy, range: FullRange): number[] {
  const { min, step, max } = range;
  if (min === 0) return max === 0 ? [0] : [0, ...bucketSizes(strategy, { ...range, min: Math.min(step, max) })];
  const sizes = strategies[strategy](range);
  return [...new Set(sizes)].sort((a, b) => a - b);
}

/** vllm_gaudi's of the same names are in vllm_gaudi/extension/bucketing. */
const strategies: Record<BucketStrategy, (range: FullRange) => number[]> = { exponential, linear, 'padding-aware': paddingAware };

/**
 * `ceil(log2(max / min)) + 1` sizes, each the same factor above the one before, rounded up to the step. vllm_gaudi's `ExponentialBucketingStrategy`
 * takes that logarithm of `max` alone, and so makes more of them the larger `min` is.
 */
function exponential({ min, step, max }: FullRange): number[] {
  const intervals = Math.ceil(Math.log2(max / min));
  const scaled = Array.from({ length: intervals }, (_, i) => min * (max / min) ** (i / intervals));
  return [min, ...scaled.slice(1).map((size) => Math.min(roundUp(size, step), max)), max];
}

/** vllm_gaudi's `LinearBucketingStrategy` leaves `max` out where it is no multiple of the step; what then fits no bucket is compiled for on demand. */
function linear({ min, step, max }: FullRange): number[] {
  const sizes = doubled(min, Math.min(step, max));
  for (let size = roundUp(min + 1, step); size < max; size += step) sizes.push(size);
  return [...sizes, max];
}

/**
 * The bound is for the worst case, a step one token larger than the bucket below. Where already one step is over it, the next is one step away.
 * vllm_gaudi's `PaddingAwareBucketingStrategy` also keeps each multiple of `padMax`.
 */
function paddingAware({ min, step, max, padMax, padPercent }: FullRange): number[] {
  const sizes = doubled(min, Math.min(step, max));
  for (let last = sizes.at(-1)!; last < max; last = sizes.at(-1)!) {
    const isWithin = (size: number) => size - last - 1 <= padMax && (size - last - 1) * 100 <= padPercent * size;
    let next = roundUp(last + 1, step);
    while (next < max && isWithin(Math.min(next + step, max))) next += step;
    sizes.push(Math.min(next, max));
  }
  return sizes;
}

/** `min`, then twice as much each time, as long as it is not over `most`. */
function doubled(min: number, most: number): number[] {
  const sizes = [min];
  for (let size = min * 2; size <= most; size *= 2) sizes.push(size);
  return sizes;
}

function roundUp(size: number, step: number): number {
  return Math.ceil(size / step) * step;
}
