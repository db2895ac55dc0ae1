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
  /** Rows of features that the tower gives for a tile. */
  tokensPerTile: number;
  /** For each token of the prompt the row of the features that stands there; -1: the token itself. */
  rows: Int32Array;
}

/** The images of one sequence, until its prompt is computed: tiles that wait for the tower, and the features that it gave. */
export class PromptImages implements Disposable {
  /** Disposed with the images: the permit to have them in memory. */
  permit: Disposable | null = null;
  private readonly tileDims: readonly number[];
  private readonly rows: Int32Array;
  /** Those that wait, in order. */
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

  /** Whether a tile waits for the tower still. */
  get pending(): boolean {
    return this.tiles.length > 0;
  }

  /** The tile whose turn it is, `[1, channels, side, side]`. */
  nextTile(): HostTensor {
    return { dtype: 'float32', dims: [1, ...this.tileDims], data: this.tiles[0]! };
  }

  /** Takes what the tower made of `nextTile`, `[tokens, hidden]`. */
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

  /** What a run of `count` tokens from `start` on needs: only the features that stand there, counted from the first of them. Nothing where none does. */
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
