import type { HostTensor } from '@graft/graph';
import { type Bucket, leastPadded } from './buckets.ts';
import type { RunRow, RunStep } from './model-runner.ts';
import type { StepRow } from './program-step.ts';

/** One run of a static graph: a part of a step, padded to a bucket. */
export interface StepPiece {
  readonly bucket: Bucket;
  readonly firstSlot: number;
  /** As many as the bucket's batch. The first `realRows` belong to the step; the others are padding. */
  readonly rows: readonly StepRow[];
  readonly realRows: number;
  /** Tokens of each of these. */
  readonly tokens: number;
  /** Whether its logits are part of the step's result. */
  readonly keepsLogits: boolean;
  /** `[batch * query, hidden]`; null if this piece has no image. */
  readonly imageFeatures: HostTensor | null;
}

/**
 * Splits a step into runs of buckets, in the order of its rows. A prompt that no bucket holds is computed in parts. If the logits of all tokens are requested,
 * its tokens are computed one by one: a static graph has logits for one token per row.
 */
export function stepPieces(step: RunStep, buckets: readonly Bucket[], isFree: (slot: number) => boolean): StepPiece[] {
  const { rows, firstSlot, imageFeatures } = step;
  if (rows[0]!.tokenIds.length === 1 && imageFeatures === undefined) return decodePieces(step, buckets, isFree);
  return rows.flatMap((row, i) => promptPieces(row, firstSlot + i, step, buckets));
}

/**
 * One token of each row. Rows of padding come after the real ones and stand on the slots that follow. If one of these slots is not free, or no batch is large
 * enough, the rows are split.
 */
function decodePieces({ rows, firstSlot }: RunStep, buckets: readonly Bucket[], isFree: (slot: number) => boolean): StepPiece[] {
  const decode = buckets.filter(({ query }) => query === 1);
  const pieces: StepPiece[] = [];
  for (let start = 0, count = 0; start < rows.length; start += count) {
    const rest = rows.slice(start);
    const first = firstSlot + start;
    const padding = ({ batch }: Bucket) => Array.from({ length: Math.max(0, batch - rest.length) }, (_, i) => first + rest.length + i);
    const bucket = bucketFor(
      rest,
      decode.filter((each) => padding(each).every(isFree)),
    );
    count = Math.min(rest.length, bucket.batch);
    pieces.push({
      bucket,
      firstSlot: first,
      rows: [...rest.slice(0, count), ...Array.from({ length: bucket.batch - count }, () => paddingRow)],
      realRows: count,
      tokens: 1,
      keepsLogits: true,
      imageFeatures: null,
    });
  }
  return pieces;
}

/** The bucket that holds all rows, else the one that as many as possible of the first rows fill. One row always has a bucket: `requireSmallestBucket`. */
function bucketFor(rows: readonly RunRow[], buckets: readonly Bucket[]): Bucket {
  for (let count = rows.length; ; count--) {
    const usable = count === rows.length ? buckets : buckets.filter(({ batch }) => batch === count);
    const context = Math.max(...rows.slice(0, count).map(({ computed }) => computed));
    const bucket = leastPadded(usable, { batch: count, query: 1, context });
    if (bucket !== null) return bucket;
  }
}

/** A row of padding; its results are not read. */
const paddingRow: StepRow = { tokenIds: [0], computed: 0 };

function promptPieces(row: StepRow, firstSlot: number, { logits, imageFeatures }: RunStep, buckets: readonly Bucket[]): StepPiece[] {
  const single = buckets.filter(({ batch }) => batch === 1);
  const usable = logits === 'all' ? single.filter(({ query }) => query === 1) : single;
  const pieces: StepPiece[] = [];
  for (let done = 0, tokens = 0; done < row.tokenIds.length; done += tokens) {
    const context = row.computed + done;
    const rest = row.tokenIds.length - done;
    const bucket = leastPadded(usable, { batch: 1, query: rest, context }) ?? largestQuery(usable, context);
    tokens = Math.min(rest, bucket.query);
    const tokenIds = row.tokenIds.slice(done, done + tokens);
    const images = imagesOfPiece(imageFeatures, row.imageRows?.slice(done, done + tokens), bucket.query);
    pieces.push({
      bucket,
      firstSlot,
      rows: [{ tokenIds, computed: context, padding: bucket.query - tokens, ...(images !== null && { imageRows: images.imageRows }) }],
      realRows: 1,
      tokens,
      keepsLogits: logits === 'all' || done + tokens === row.tokenIds.length,
      imageFeatures: images?.imageFeatures ?? null,
    });
  }
  return pieces;
}

/** The longest bucket with enough context. One always exists: `requireSmallestBucket`. */
function largestQuery(buckets: readonly Bucket[], context: number): Bucket {
  return buckets.filter((bucket) => bucket.context >= context).reduce((best, bucket) => (bucket.query > best.query ? bucket : best));
}

/** The features of this piece's tokens, in order, padded with zeros. */
function imagesOfPiece(features: HostTensor | undefined, asked: readonly number[] | undefined, query: number) {
  if (features === undefined || asked === undefined || asked.every((row) => row < 0)) return null;
  const hidden = features.dims[1]!;
  const data = new Float32Array(query * hidden);
  let next = 0;
  const imageRows = asked.map((row) => {
    if (row < 0) return -1;
    data.set((features.data as Float32Array).subarray(row * hidden, (row + 1) * hidden), next * hidden);
    return next++;
  });
  return { imageRows, imageFeatures: { dtype: 'float32' as const, dims: [query, hidden], data } };
}
