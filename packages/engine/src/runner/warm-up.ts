import { graftError } from '@graft/common';
import type { ImageTower, ModelContext } from '@graft/core-model';
import type { HostTensor } from '@graft/graph';
import { graphKey, tileKey } from './bucket-graphs.ts';
import type { Bucket } from './buckets.ts';
import type { WarmUpRow } from './model-runner.ts';
import type { StepPiece } from './step-pieces.ts';

/** A bucket's graph gives wrong results. */
export class WarmUpError extends graftError('GRAFT_WARM_UP', (what: string, bucket: string) => ({
  what,
  where: `bucket "${bucket}"`,
  fix: 'run `graft verify`. If upstream fails too, the weights are damaged; otherwise the override or its compiled graph is wrong.',
})) {}

/** @throws WarmUpError for a value that is not a finite number. */
export function requireFinite(values: Float32Array, bucket: string): void {
  const at = values.findIndex((value) => !Number.isFinite(value));
  if (at >= 0) throw new WarmUpError(`A run of the warm-up has ${values[at]} as value ${at} of its result.`, bucket);
}

/** @throws WarmUpError if two runs with the same inputs differ. */
export function requireSame(first: Float32Array, second: Float32Array, bucket: string): void {
  const at = first.findIndex((value, i) => value !== second[i]);
  if (at >= 0)
    throw new WarmUpError(`Value ${at} was ${first[at]} in the first run and ${second[at]} in the second run of the same step.`, bucket);
}

/** A step that fills a bucket, up to the `maxModelLength` tokens of a sequence. The caches hold zeros. @param withImages for the graph that takes images. */
export function warmUpPiece(bucket: Bucket, { maxModelLength, config }: ModelContext, withImages: boolean): StepPiece {
  const { vocabSize, hiddenSize } = config;
  const tokens = Math.min(bucket.query, maxModelLength);
  const computed = Math.min(bucket.context, maxModelLength - tokens);
  const tokenIds = Array.from({ length: tokens }, (_, i) => (i * 7919 + 1) % vocabSize);
  const row = { tokenIds, computed, padding: bucket.query - tokens, ...(withImages && { imageRows: [0] }) };
  const dims = [bucket.query, hiddenSize];
  return {
    bucket,
    firstSlot: 0,
    rows: Array.from({ length: bucket.batch }, () => row),
    realRows: bucket.batch,
    tokens,
    keepsLogits: true,
    imageFeatures: withImages ? { dtype: 'float32', dims, data: ramp(bucket.query * hiddenSize) } : null,
  };
}

/** A tile of synthetic values. */
export function tileValues({ numChannels, imageSize }: ImageTower): HostTensor {
  return { dtype: 'float32', dims: [1, numChannels, imageSize, imageSize], data: ramp(numChannels * imageSize ** 2) };
}

/** From -1 to 1. */
function ramp(length: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => (2 * i) / length - 1);
}

/** A row for each kind of bucket, with the seconds that its graphs took to capture, compile and run. */
export function summaryRows(buckets: readonly Bucket[], seconds: ReadonlyMap<string, number>): WarmUpRow[] {
  const prompts = buckets.filter(({ query }) => query > 1);
  const decodes = buckets.filter(({ query }) => query === 1);
  const single = buckets.filter(({ batch }) => batch === 1);
  const row = (kind: WarmUpRow['kind'], of: readonly Bucket[], sizes: number[], withImages = false): WarmUpRow => {
    const keys = [...new Set(of.map((bucket) => graphKey(bucket, withImages)))].filter((key) => seconds.has(key));
    return {
      kind,
      buckets: of.length,
      graphs: keys.length,
      seconds: keys.reduce((sum, key) => sum + seconds.get(key)!, 0),
      padding: mostPadding(sizes),
    };
  };
  const queries = single.map(({ query }) => query);
  const batches = decodes.map(({ batch }) => batch);
  const tile = seconds.get(tileKey);
  return [
    row('prompt', prompts, queries),
    row('decode', decodes, batches),
    row('prompt with images', single, queries, true),
    { kind: 'image' as const, buckets: 1, graphs: tile === undefined ? 0 : 1, seconds: tile ?? 0, padding: null },
  ].filter(({ graphs }) => graphs > 0);
}

/** The largest part of a bucket that can be padding. The worst step has one token more than the next smaller size holds. */
function mostPadding(sizes: readonly number[]): number {
  const ascending = [...new Set(sizes)].sort((a, b) => a - b);
  return ascending.reduce((most, size, i) => Math.max(most, (size - (ascending[i - 1] ?? 0) - 1) / size), 0);
}
