import type { Bucket, BucketPolicy, RunnerParts } from '@graft/engine';
import type { ServedSizes } from '@graft/registry';
import { HpuOptionError } from './options.ts';
import { type BucketRange, type BucketStrategy, type HpuPlatformOptions, parseHpuPlatformOptions } from './platform-options.ts';

/** A range with its defaults filled in. */
export type FullRange = Required<BucketRange>;

/** The ranges of the buckets of one engine. */
export interface BucketRanges {
  readonly promptQuery: FullRange;
  readonly promptContext: FullRange;
  readonly decodeBatch: FullRange;
  readonly decodeContext: FullRange;
}

/**
 * The buckets of an engine, sorted by tokens: `(1, query, context)` for prompts, because attention over a past takes one sequence at a time, and
 * `(batch, 1, context)` for decoding. Batch 1 x query 1 is always one of them. In vllm_gaudi (`HPUBucketingManager`) a step without a bucket makes a new
 * one, and compiles while the request waits. Here every step has a bucket: a long prompt runs in pieces, more sequences than the largest batch run in
 * turns, and a sequence longer than the served length is refused on arrival.
 * @throws HpuOptionError for a range that is empty, or larger than what is served
 */
export function hpuBuckets(options: HpuPlatformOptions, sizes: ServedSizes): Bucket[] {
  const ranges = bucketRanges(options, sizes);
  const of = (name: keyof BucketRanges) => bucketSizes(options.bucketing, ranges[name]);
  const buckets = [
    ...of('promptQuery').flatMap((query) => of('promptContext').map((context) => ({ batch: 1, query, context }))),
    ...[1, ...of('decodeBatch')].flatMap((batch) => of('decodeContext').map((context) => ({ batch, query: 1, context }))),
  ];
  const byShape = new Map(buckets.map((bucket) => [`${bucket.batch}x${bucket.query}@${bucket.context}`, bucket]));
  return [...byShape.values()].sort((a, b) => a.batch * a.query - b.batch * b.query || a.batch - b.batch || a.context - b.context);
}

/** The buckets for an engine's config. @throws HpuOptionError */
export function hpuBucketPolicy({ config, context }: Pick<RunnerParts, 'config' | 'context'>): BucketPolicy {
  const { platformOptions, maxSequences, prefillTokens } = config;
  const { maxModelLength } = context;
  return { buckets: hpuBuckets(parseHpuPlatformOptions(platformOptions), { maxSequences, prefillTokens, maxModelLength }) };
}

/**
 * The ranges that the options leave out come from the sizes served. For 8 sequences, pieces of 256 tokens and `exponential`: queries of 16, 32, 64, 128
 * and 256, batches of 1, 2, 4 and 8, which is 9 graphs. vllm_gaudi's smallest query is a block of the cache, 128, and it counts contexts in blocks. Here
 * contexts are tokens: two for prompts (none, and any) and one for decoding, since a graph does not depend on them.
 * @throws HpuOptionError for a range that is empty, or larger than what is served
 */
export function bucketRanges(options: HpuPlatformOptions, { maxSequences, prefillTokens, maxModelLength }: ServedSizes): BucketRanges {
  const longest = Math.min(prefillTokens, maxModelLength);
  const isLinear = options.bucketing === 'linear';
  const queryMin = Math.min(16, longest);
  const query = { min: queryMin, step: isLinear ? roundUp(longest / 8, queryMin) : queryMin, max: longest };
  const batch = { min: 1, step: isLinear ? 2 : 1, max: maxSequences };
  const context = { min: 0, step: maxModelLength, max: maxModelLength };
  const length = `maxModelLength ${maxModelLength}`;
  return {
    promptQuery: fullRange('promptQuery', options, query, `${longest} tokens of a prompt in one piece (prefillTokens, maxModelLength)`),
    promptContext: fullRange('promptContext', options, context, length),
    decodeBatch: fullRange('decodeBatch', options, batch, `maxSequences ${maxSequences}`),
    decodeContext: fullRange('decodeContext', options, { ...context, min: maxModelLength }, length),
  };
}

/**
 * A range with its defaults filled in. Where the options lower `max`, the default `min` and `step` follow.
 * @param defaults The largest `max` that the sizes served allow is their `max`.
 * @param largest This `max` in words.
 */
function fullRange(
  name: keyof BucketRanges,
  options: HpuPlatformOptions,
  defaults: Pick<FullRange, 'min' | 'step' | 'max'>,
  largest: string,
): FullRange {
  const given: BucketRange = options[name] ?? {};
  const max = given.max ?? defaults.max;
  const min = given.min ?? Math.min(defaults.min, max);
  const refuse = (what: string, fix: string): HpuOptionError => new HpuOptionError(what, `platformOptions.${name}`, fix);
  if (max > defaults.max) throw refuse(`${name}.max ${max} is more than ${largest}.`, 'lower it, or leave it out.');
  if (min > max) throw refuse(`${name}.min ${min} is more than its max ${max}.`, 'lower min, or leave it out.');
  const step = given.step ?? Math.min(defaults.step, Math.max(max, 1));
  return { min, step, max, padMax: given.padMax ?? Math.ceil(max / 4), padPercent: given.padPercent ?? 25 };
}

/** The sizes of a range, ascending and unique, from `min` to `max`. */
export function bucketSizes(strategy: BucketStrategy, range: FullRange): number[] {
  const { min, step, max } = range;
  if (min === 0) return max === 0 ? [0] : [0, ...bucketSizes(strategy, { ...range, min: Math.min(step, max) })];
  const sizes = strategies[strategy](range);
  return [...new Set(sizes)].sort((a, b) => a - b);
}

/** vllm_gaudi/extension/bucketing has strategies of the same names. */
const strategies: Record<BucketStrategy, (range: FullRange) => number[]> = { exponential, linear, 'padding-aware': paddingAware };

/**
 * `ceil(log2(max / min)) + 1` sizes, each larger by the same factor, rounded up to the step. vllm_gaudi's `ExponentialBucketingStrategy` takes the
 * logarithm of `max` alone, and so makes more sizes for a larger `min`.
 */
function exponential({ min, step, max }: FullRange): number[] {
  const intervals = Math.ceil(Math.log2(max / min));
  const scaled = Array.from({ length: intervals }, (_, i) => min * (max / min) ** (i / intervals));
  return [min, ...scaled.slice(1).map((size) => Math.min(roundUp(size, step), max)), max];
}

/** vllm_gaudi's `LinearBucketingStrategy` omits a `max` that is not a multiple of the step, and compiles on demand for steps above the last size. */
function linear({ min, step, max }: FullRange): number[] {
  const sizes = doubled(min, Math.min(step, max));
  for (let size = roundUp(min + 1, step); size < max; size += step) sizes.push(size);
  return [...sizes, max];
}

/**
 * The bounds are for the worst case: a step that is one token larger than the bucket below. Sizes are at least one step apart, even if that exceeds a
 * bound. vllm_gaudi's `PaddingAwareBucketingStrategy` also keeps each multiple of `padMax`.
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

/** `min` and its doubles, up to `most`. */
function doubled(min: number, most: number): number[] {
  const sizes = [min];
  for (let size = min * 2; size <= most; size *= 2) sizes.push(size);
  return sizes;
}

function roundUp(size: number, step: number): number {
  return Math.ceil(size / step) * step;
}
