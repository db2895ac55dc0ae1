import type { HostTensor } from '@graft/graph';
import type { RunRow, RunStep } from '../runner/model-runner.ts';

/** One image of a prompt, ready for the vision tower. */
export interface ImageTiles {
  /** `[tiles, channels, side, side]`, normalised. */
  pixelValues: Float32Array;
  tiles: number;
}

export interface PromptImagesOptions {
  images: readonly ImageTiles[];
  /** Of one tile: `[channels, side, side]`. */
  tileDims: readonly number[];
  /** Rows of features for each tile. */
  tokensPerTile: number;
  /** The row of the features for each token of the prompt; -1 for an ordinary token. */
  rows: Int32Array;
}

/** The images of one sequence until its prompt is computed: tiles that wait for the tower, and features from it. */
export class PromptImages implements Disposable {
  /** The permit to have the images in memory; disposed with them. */
  permit: Disposable | null = null;
  private readonly tileDims: readonly number[];
  private readonly rows: Int32Array;
  /** The waiting tiles, in order. */
  private readonly tiles: Float32Array[];
  private readonly featureRows: number;
  private features: { hidden: number; data: Float32Array; filled: number } | null = null;

  constructor({ images, tileDims, tokensPerTile, rows }: PromptImagesOptions) {
    this.tileDims = tileDims;
    this.rows = rows;
    this.tiles = images.flatMap(tilesOf);
    this.featureRows = this.tiles.length * tokensPerTile;
  }

  [Symbol.dispose](): void {
    this.permit?.[Symbol.dispose]();
  }

  /** Whether a tile still waits for the tower. */
  get pending(): boolean {
    return this.tiles.length > 0;
  }

  /** The next waiting tile, `[1, channels, side, side]`. */
  nextTile(): HostTensor {
    return { dtype: 'float32', dims: [1, ...this.tileDims], data: this.tiles[0]! };
  }

  /** Takes the tower's features of `nextTile`, `[tokens, hidden]`. */
  take({ dims, data }: HostTensor): void {
    const hidden = dims[1]!;
    this.features ??= { hidden, data: new Float32Array(this.featureRows * hidden), filled: 0 };
    this.features.data.set(data as Float32Array, this.features.filled);
    this.features.filled += data.length;
    this.tiles.shift();
  }

  /** `[rows, hidden]` of all tiles, in the prompt's order. */
  get all(): Float32Array {
    return this.features?.data ?? new Float32Array(0);
  }

  /** The features among `count` tokens from `start` on, with rows counted from the first of them; empty without such features. */
  piece(start: number, count: number): { row: Pick<RunRow, 'imageRows'>; step: Pick<RunStep, 'imageFeatures'> } {
    const rows = this.rows.subarray(start, start + count);
    const used = rows.filter((row) => row >= 0);
    if (used.length === 0) return { row: {}, step: {} };
    const { hidden, data } = this.features!;
    const first = used[0]!; // rows count up through the prompt
    const last = used.at(-1)! + 1;
    return {
      row: { imageRows: Array.from(rows, (row) => (row < 0 ? -1 : row - first)) },
      step: { imageFeatures: { dtype: 'float32', dims: [last - first, hidden], data: data.subarray(first * hidden, last * hidden) } },
    };
  }
}

function tilesOf({ pixelValues, tiles }: ImageTiles): Float32Array[] {
  const length = pixelValues.length / tiles;
  return Array.from({ length: tiles }, (_, tile) => pixelValues.subarray(tile * length, (tile + 1) * length));
}
