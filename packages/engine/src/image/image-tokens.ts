import type { AspectRatio } from './canvas.ts';

/** The tokens that frame an image in the prompt: texts, or a tokenizer's ids for them. */
export interface ImageTokens<T> {
  /** Before all else. */
  imageStart: T;
  /** After all else. */
  imageEnd: T;
  /** Before the patches of the global tile, or of the only one. */
  image: T;
  /** One for each position that the vision tower's output takes. */
  patch: T;
  /** Between tiles of one row. */
  tileX: T;
  /** After each row of tiles. */
  tileY: T;
}

/** The names of Llama 4's special tokens. */
export const llama4ImageTokens: ImageTokens<string> = {
  imageStart: '<|image_start|>',
  imageEnd: '<|image_end|>',
  image: '<|image|>',
  patch: '<|patch|>',
  tileX: '<|tile_x_separator|>',
  tileY: '<|tile_y_separator|>',
};

/**
 * Positions that a tile takes in the prompt: its patches, as many times fewer as the pixel shuffle folds into one (Llama 4: 24 x 24 patches / 4 = 144).
 * @param tileSide and `patchSize` in pixels.
 * @param pixelShuffleRatio the config's `pixel_shuffle_ratio`, 0.5 in Llama 4: `1 / ratio^2` patches become one.
 */
export function patchesPerTile(tileSide: number, patchSize: number, pixelShuffleRatio: number): number {
  const folded = Math.round(1 / pixelShuffleRatio ** 2);
  return Math.floor(Math.floor(tileSide / patchSize) ** 2 / folded);
}

/**
 * What stands in the prompt for one image, in the order in which its tiles' features are put there: tiles row by row, then the global one. One tile: it alone.
 * Joined, with the texts of `llama4ImageTokens`, it is what the published processor puts for `<|image|>`.
 */
export function imageTokenLayout<T>({ rows, columns }: AspectRatio, patches: number, tokens: ImageTokens<T>): T[] {
  const tile = new Array<T>(patches).fill(tokens.patch);
  const layout = [tokens.imageStart];
  for (let index = 0; rows * columns > 1 && index < rows * columns; index++) {
    layout.push(...tile, (index + 1) % columns === 0 ? tokens.tileY : tokens.tileX);
  }
  layout.push(tokens.image, ...tile, tokens.imageEnd);
  return layout;
}
