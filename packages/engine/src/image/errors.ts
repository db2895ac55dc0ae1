import { graftError, wordedError } from '@graft/common';

/** An image's URL is not a base64 `data:` URL. */
export class ImageUrlError extends wordedError('GRAFT_IMAGE_URL', 'send "data:image/png;base64,..." with the file in padded base64.') {}

/** The bytes, or their media type, belong to no supported image format. */
export class ImageTypeError extends wordedError('GRAFT_IMAGE_TYPE', 'send a PNG, JPEG, WebP or GIF.') {}

/** A file that begins as an image cannot be decoded. */
export class ImageBrokenError extends graftError('GRAFT_IMAGE_BROKEN', (what: string, where: string, cause?: unknown) => ({
  what,
  where,
  fix: 'send the whole file; open it in another program to check that it is intact.',
  cause,
})) {}

/**
 * An image file is larger than `maxImageBytes`.
 * @param count `at least` if reading stopped at the limit.
 */
export class ImageBytesError extends graftError(
  'GRAFT_IMAGE_BYTES',
  (bytes: number, limit: number, where: string, count: 'exactly' | 'at least' = 'exactly') => ({
    what: `The image has ${count === 'at least' ? 'at least ' : ''}${bytes} bytes; the limit maxImageBytes is ${limit}.`,
    where,
    fix: 'send a smaller file, or raise the limit.',
  }),
) {}

/** An image has more pixels than `maxImagePixels`. */
export class ImagePixelsError extends graftError('GRAFT_IMAGE_PIXELS', (width: number, height: number, limit: number, where: string) => ({
  what: `The image is ${width} x ${height}, ${width * height} pixels; the limit maxImagePixels is ${limit}.`,
  where,
  fix: 'scale the image down (the model sees at most its canvas of tiles), or raise the limit.',
})) {}

/** A side of an image is too long: resizing such a line takes far more memory than its pixels. */
export class ImageSideError extends graftError('GRAFT_IMAGE_SIDE', (width: number, height: number, limit: number, where: string) => ({
  what: `The image is ${width} x ${height}; a side has at most ${limit} pixels.`,
  where,
  fix: 'cut the image, or scale it down.',
})) {}

/** An animated image has more frames than `maxImageFrames`. */
export class ImageFramesError extends graftError('GRAFT_IMAGE_FRAMES', (frames: number, limit: number, where: string) => ({
  what: `The image has ${frames} frames; the limit maxImageFrames is ${limit}.`,
  where,
  fix: 'send one frame (only the first is used), or raise the limit.',
})) {}

/** A request has more images than `maxImages`. */
export class ImageCountError extends graftError('GRAFT_IMAGE_COUNT', (count: number, limit: number, where: string = 'images') => ({
  what: `The request has ${count} images; the limit maxImages is ${limit}.`,
  where,
  fix: 'send fewer images, or raise the limit.',
})) {}

/** The prompt's places for images do not match its images. */
export class ImagePlacesError extends graftError('GRAFT_IMAGE_PLACES', (what: string, where: string, fix: string) => ({
  what,
  where,
  fix,
})) {}

/** A text-only model was given an image. */
export class ModelReadsNoImagesError extends graftError('GRAFT_MODEL_READS_NO_IMAGES', (model: string, where: string) => ({
  what: `The model ${model} reads no images, only text.`,
  where,
  fix: 'leave the images out, or ask a model with a vision tower.',
})) {}
