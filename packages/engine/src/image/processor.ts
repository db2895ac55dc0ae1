import { setImmediate } from 'node:timers/promises';
import type { z } from 'zod';
import { EngineConfigError } from '../errors.ts';
import { parseWith } from '../json-file.ts';
import { type AspectRatio, placeOnCanvas } from './canvas.ts';
import { decodeImage } from './decode.ts';
import { ImageCountError } from './errors.ts';
import { ImageProcessorConfig } from './image-config.ts';
import type { ImageTiles } from './prompt-images.ts';
import { type RgbImage, resizeBilinear } from './resize.ts';

/** One image as the vision tower takes it: the canvas's tiles row by row; if there are several, one more tile with the whole image. Values are -1 to 1. */
export interface ProcessedImage extends ImageTiles {
  /** Of the canvas, without the global tile. */
  aspectRatio: AspectRatio;
}

export interface ProcessOptions {
  signal?: AbortSignal;
  where?(index: number): string;
}

const whereOf = (index: number): string => `images.${index}`;

/**
 * Turns encoded images into tiles: best-fit canvas, resize without distortion (bilinear with antialiasing), black padding, tiles, a global tile, normalised in
 * bfloat16. Decoding runs in the library's threads. During the rest, the event loop turns every few milliseconds.
 * @throws EngineConfigError from the constructor, for an unknown key or a value out of range.
 */
export class ImageProcessor {
  readonly config: ImageProcessorConfig;

  constructor(config: z.input<typeof ImageProcessorConfig> = {}) {
    const advice = 'correct the option of the image processor.';
    this.config = parseWith(ImageProcessorConfig, config, (what, key, fix = advice) => new EngineConfigError(what, key, fix));
  }

  /**
   * @param images the files of one request (PNG, JPEG, WebP, GIF); decoded one after another, so that only one is in memory.
   * @param options `where` names an image in errors. Default: `images.0`, `images.1` and so on.
   * @throws ImageCountError before any is read; ImageTypeError, ImageBytesError, ImagePixelsError, ImageFramesError, ImageBrokenError for the first faulty image; the
   * signal's reason.
   */
  async process(images: readonly Uint8Array[], { signal, where = whereOf }: ProcessOptions = {}): Promise<ProcessedImage[]> {
    const { limits } = this.config;
    if (images.length > limits.maxImages) throw new ImageCountError(images.length, limits.maxImages);
    const processed: ProcessedImage[] = [];
    for (const [index, bytes] of images.entries()) {
      signal?.throwIfAborted();
      processed.push(await this.#toTiles(await decodeImage(bytes, limits, where(index))));
    }
    return processed;
  }

  async #toTiles(image: RgbImage): Promise<ProcessedImage> {
    const { tileSide } = this.config;
    const { rows, columns, size } = placeOnCanvas(image, this.config);
    const tiles = rows * columns === 1 ? 1 : rows * columns + 1;
    const tileLength = 3 * tileSide * tileSide;
    const pixelValues = new Float32Array(tiles * tileLength);
    const tile = (index: number): Float32Array => pixelValues.subarray(index * tileLength, (index + 1) * tileLength);
    const resized = await resizeBilinear(image, size);
    for (let index = 0; index < rows * columns; index++) {
      const origin = { x: (index % columns) * tileSide, y: Math.floor(index / columns) * tileSide };
      writeTile(resized, origin, tileSide, tile(index));
      await setImmediate();
    }
    if (tiles > 1) writeTile(await resizeBilinear(image, { height: tileSide, width: tileSide }), { x: 0, y: 0 }, tileSide, tile(tiles - 1));
    return { pixelValues, tiles, aspectRatio: { rows, columns } };
  }
}

/** To the nearest bfloat16, ties to even. */
function rounded(value: number): number {
  const floats = Float32Array.of(value);
  const bits = new Uint32Array(floats.buffer);
  bits[0] = (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000;
  return floats[0]!;
}

/** `(byte / 255 - 0.5) / 0.5` for each byte, rounded to bfloat16 after every step, as the published processor computes. */
const normalised: Float32Array = Float32Array.from({ length: 256 }, (_, byte) => {
  const scaled = rounded(byte * Math.fround(1 / 255));
  return rounded(rounded(scaled - 0.5) / 0.5);
});

/**
 * Writes one tile, channels first and normalised; black outside the image.
 * @param image fills the canvas's upper left corner.
 * @param origin of the tile in the canvas, in pixels.
 * @param out `[3, side, side]`.
 */
function writeTile(image: RgbImage, { x: left, y: top }: { x: number; y: number }, side: number, out: Float32Array): void {
  out.fill(normalised[0]!);
  const width = Math.min(side, image.width - left);
  const height = Math.min(side, image.height - top);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < height; y++) {
      const from = ((top + y) * image.width + left) * 3 + channel;
      const to = (channel * side + y) * side;
      for (let x = 0; x < width; x++) out[to + x] = normalised[image.pixels[from + x * 3]!]!;
    }
  }
}
