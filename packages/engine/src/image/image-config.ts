import { z } from 'zod';

/** The limits of one request's images. Each has its own error, which names it. */
export const ImageLimits = z.strictObject({
  maxImages: z.int().positive().default(8).describe('Images of one request.'),
  maxImageBytes: z.int().positive().default(20_971_520).describe('Bytes of one encoded image.'),
  maxImagePixels: z.int().positive().default(40_000_000).describe('Pixels (width x height) of one image; decoded, each takes 3 bytes.'),
  maxImageFrames: z.int().positive().default(64).describe('Frames of an animated image. Only the first is used.'),
});
export type ImageLimits = z.output<typeof ImageLimits>;

/** How images become tiles. The defaults are those of published checkpoints. */
export const ImageProcessorConfig = z.strictObject({
  tileSide: z.int().positive().max(2048).default(336).describe("Pixels of a tile's side: the vision tower's image_size."),
  maxTiles: z.int().min(1).max(64).default(16).describe('Tiles of one image, without the global one (max_patches).'),
  resizeToMaxCanvas: z.boolean().default(false).describe('Enlarge an image to the largest canvas that it fits, instead of the smallest.'),
  limits: ImageLimits.prefault({}),
});
export type ImageProcessorConfig = z.output<typeof ImageProcessorConfig>;
