import { describeIssue } from '@graft/registry';
import { z } from 'zod';
import { HpuOptionError } from './options.ts';

const size = z.int().positive();

const range = z.strictObject({
  min: size.exactOptional().describe('The smallest bucket.'),
  step: size.exactOptional().describe('Sizes in between are rounded up to multiples of this.'),
  max: size.exactOptional().describe('The largest bucket.'),
  padMax: z
    .int()
    .nonnegative()
    .exactOptional()
    .describe('padding-aware: the most padding, in tokens or sequences. Default: a quarter of max.'),
  padPercent: z.number().min(0).max(50).exactOptional().describe('padding-aware: the most padding, in percent of the bucket. Default: 25.'),
});

// Without `max`: a sequence may always grow to the served length.
const contextRange = range
  .omit({ max: true })
  .extend({ min: z.int().nonnegative().exactOptional().describe('The smallest bucket; 0: no past.') });

/** The `platformOptions` of this platform: the static shapes that it makes graphs for. See the README of this package. */
export const HpuPlatformOptions = z.strictObject({
  bucketing: z.enum(['exponential', 'linear', 'padding-aware']).default('exponential').describe('How the sizes of buckets are spaced.'),
  promptQuery: range.exactOptional().describe('Tokens of a prompt in one run.'),
  promptContext: contextRange.exactOptional().describe('Rows in the cache before a run of a prompt.'),
  decodeBatch: range.exactOptional().describe('Sequences that decode in one run.'),
  decodeContext: contextRange.exactOptional().describe('Rows in the cache before a run that decodes.'),
});
export type HpuPlatformOptions = z.output<typeof HpuPlatformOptions>;

/**
 * How sizes are spaced. All strategies begin at `min`, end at `max` and use multiples of `step` in between.
 *  - `exponential`: evenly by ratio, each at most twice the one before (rounded up to the step). Few graphs; up to half of a run is padding.
 *  - `linear`: doubled up to `step`, then a step apart. The most graphs; padding is below a step.
 *  - `padding-aware`: doubled up to `step`, then as far apart as `padMax` and `padPercent` allow.
 */
export type BucketStrategy = HpuPlatformOptions['bucketing'];

/** A range of the options. Defaults come from the sizes that are served. */
export type BucketRange = z.output<typeof range>;

/** @throws HpuOptionError for an unknown option or a wrong value */
export function parseHpuPlatformOptions(given: Readonly<Record<string, unknown>>): HpuPlatformOptions {
  const parsed = HpuPlatformOptions.safeParse(given);
  if (parsed.success) return parsed.data;
  const { what, where, fix = 'see the README of llama4-hpu for what it takes.' } = describeIssue(parsed.error, HpuPlatformOptions);
  throw new HpuOptionError(what, where === '' ? 'platformOptions' : `platformOptions.${where}`, fix);
}
