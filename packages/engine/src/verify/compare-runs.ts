import { joined } from '../runner/program-step.ts';
import type { VerifyImage } from './prompt.ts';
import type { RecordedRun } from './record-run.ts';

/**
 * The difference of two models in one place, for the token with the largest difference. Each token has its own scale: the first one's values are often a
 * thousand times larger than others.
 */
export interface Difference {
  /** The largest absolute difference of that token's values; null if one of the two has a value that is not finite. */
  readonly difference: number | null;
  /** Upstream's largest absolute value for that token. */
  readonly largest: number;
  /** `difference` over the larger of `largest` and 1. It is compared with the tolerance. Null like `difference`. */
  readonly relative: number | null;
  /** The token, counted from the start of the prompt. */
  readonly position: number;
  readonly within: boolean;
}

/** The residual stream after one layer. */
export interface LayerDifference extends Difference {
  /** The layer's number; `image`: the vision tower's features, before the first layer. */
  readonly layer: number | 'embedding' | 'image';
}

export interface IdsComparison {
  readonly equal: boolean;
  /** The first token that differs, counted from the start of the answer; null if all are equal. */
  readonly firstDifferent: number | null;
  /** Upstream's logit of its own choice minus that of the override's choice. Close to 0: a tie that rounding decides. */
  readonly margin: number | null;
}

/** Two runs over the same tokens. */
export interface RunComparison {
  /** Null if one of the two failed, so that nothing was compared. */
  readonly isEqual: boolean | null;
  /** From the embedding to the last layer. The image comes first, if there is one. */
  readonly layers: readonly LayerDifference[];
  readonly logits: Difference | null;
  /** The first layer over the tolerance. */
  readonly firstOver: LayerDifference['layer'] | null;
  readonly ids: IdsComparison | null;
}

/** @param image of the prompt. */
export function compareRuns(
  upstream: RecordedRun | null,
  override: RecordedRun | null,
  tolerance: number,
  image: VerifyImage | null = null,
): RunComparison {
  if (upstream === null || override === null) return { isEqual: null, layers: [], logits: null, firstOver: null, ids: null };
  const layers = [...compareImages(upstream, override, tolerance, image), ...compareLayers(upstream, override, tolerance)];
  const logits = compareLogits(upstream, override, tolerance);
  const ids = compareIds(upstream, override);
  const firstOver = layers.find(({ within }) => !within)?.layer ?? null;
  return { isEqual: firstOver === null && logits.within && ids.equal, layers, logits, firstOver, ids };
}

/** The vision tower's features in the places of the image's tokens; empty without an image. */
function compareImages(upstream: RecordedRun, override: RecordedRun, tolerance: number, at: VerifyImage | null): LayerDifference[] {
  if (at === null || upstream.image === null) return [];
  const rows = { rows: at.tokens, tolerance, firstPosition: at.firstToken };
  return [{ layer: 'image', ...compareRows(upstream.image, override.image ?? new Float32Array(), rows) }];
}

/** Layer by layer: the stream that enters layer i is the output of layer i - 1. */
function compareLayers(upstream: RecordedRun, override: RecordedRun, tolerance: number): LayerDifference[] {
  return upstream.streams.map((stream, i) => {
    const rows = upstream.tokens;
    return { layer: i === 0 ? 'embedding' : i - 1, ...compareRows(stream, override.streams[i] ?? new Float32Array(), { rows, tolerance }) };
  });
}

/** The logits of each position from which a token was chosen. */
function compareLogits(upstream: RecordedRun, override: RecordedRun, tolerance: number): Difference {
  const rows = upstream.logits.length;
  return compareRows(joined(upstream.logits), joined(override.logits), { rows, tolerance, firstPosition: upstream.tokens - rows });
}

function compareIds(upstream: RecordedRun, override: RecordedRun): IdsComparison {
  const at = upstream.greedy.findIndex((id, i) => id !== override.greedy[i]);
  if (at < 0) return { equal: true, firstDifferent: null, margin: null };
  const row = upstream.logits[at]!;
  const margin = row[upstream.greedy[at]!]! - (row[override.greedy[at]!] ?? Number.NaN);
  return { equal: false, firstDifferent: at, margin: Number.isFinite(margin) ? margin : null };
}

interface Rows {
  rows: number;
  tolerance: number;
  /** Of the first row. */
  firstPosition?: number;
}

function compareRows(a: Float32Array, b: Float32Array, { rows, tolerance, firstPosition = 0 }: Rows): Difference {
  const width = a.length / rows;
  let worst: Difference = { difference: 0, largest: 0, relative: 0, position: firstPosition, within: true };
  for (let row = 0; row < rows; row++) {
    const [own, others] = [a, b].map((all) => all.subarray(row * width, (row + 1) * width)) as [Float32Array, Float32Array];
    const { difference, largest } = compareRow(own, others);
    const position = firstPosition + row;
    if (!Number.isFinite(difference)) return { difference: null, largest, relative: null, position, within: false };
    const relative = difference / Math.max(1, largest);
    if (row === 0 || relative > worst.relative!) worst = { difference, largest, relative, position, within: relative <= tolerance };
  }
  return worst;
}

function compareRow(own: Float32Array, others: Float32Array): { difference: number; largest: number } {
  let [difference, largest] = [0, 0];
  for (let i = 0; i < own.length; i++) {
    largest = Math.max(largest, Math.abs(own[i]!));
    difference = Math.max(difference, Math.abs(own[i]! - (others[i] ?? Number.NaN))); // NaN stays
  }
  return { difference, largest };
}
