import { GraftError } from '@graft/common';

/** A URL of an image is not a `data:` URL of the form that is taken. */
export class ImageUrlError extends GraftError {
  constructor(what: string, where: string) {
    super({ code: 'GRAFT_IMAGE_URL', what, where, fix: 'send "data:image/png;base64,..." with the file in padded base64.' });
  }
}

/** The bytes, or the media type they were announced with, are of no image format that is read. */
export class ImageTypeError extends GraftError {
  constructor(what: string, where: string) {
    super({ code: 'GRAFT_IMAGE_TYPE', what, where, fix: 'send a PNG, JPEG, WebP or GIF.' });
  }
}

/** A file that begins as an image cannot be decoded. */
export class ImageBrokenError extends GraftError {
  constructor(what: string, where: string, cause?: unknown) {
    super({
      code: 'GRAFT_IMAGE_BROKEN',
      what,
      where,
      fix: 'send the whole file; open it in another program to see whether it is sound.',
      cause,
    });
  }
}

/** An image is larger, as a file, than `maxImageBytes`. */
export class ImageBytesError extends GraftError {
  /** @param count `at least` where reading stopped at the limit. */
  constructor(bytes: number, limit: number, where: string, count: 'exactly' | 'at least' = 'exactly') {
    super({
      code: 'GRAFT_IMAGE_BYTES',
      what: `The image has ${count === 'at least' ? 'at least ' : ''}${bytes} bytes; the limit maxImageBytes is ${limit}.`,
      where,
      fix: 'send a smaller file, or raise the limit.',
    });
  }
}

/** An image has more pixels than `maxImagePixels`. */
export class ImagePixelsError extends GraftError {
  constructor(width: number, height: number, limit: number, where: string) {
    super({
      code: 'GRAFT_IMAGE_PIXELS',
      what: `The image is ${width} x ${height}, ${width * height} pixels; the limit maxImagePixels is ${limit}.`,
      where,
      fix: 'scale the image down (the model sees at most its canvas of tiles), or raise the limit.',
    });
  }
}

/** An image has a side that no photo has; what is computed of such a line takes far more memory than its pixels. */
export class ImageSideError extends GraftError {
  constructor(width: number, height: number, limit: number, where: string) {
    super({
      code: 'GRAFT_IMAGE_SIDE',
      what: `The image is ${width} x ${height}; a side has at most ${limit} pixels.`,
      where,
      fix: 'cut the image, or scale it down.',
    });
  }
}

/** An animated image has more frames than `maxImageFrames`. */
export class ImageFramesError extends GraftError {
  constructor(frames: number, limit: number, where: string) {
    super({
      code: 'GRAFT_IMAGE_FRAMES',
      what: `The image has ${frames} frames; the limit maxImageFrames is ${limit}.`,
      where,
      fix: 'send the frame that matters (only the first is used), or raise the limit.',
    });
  }
}

/** A request has more images than `maxImages`. */
export class ImageCountError extends GraftError {
  constructor(count: number, limit: number, where = 'images') {
    super({
      code: 'GRAFT_IMAGE_COUNT',
      what: `The request has ${count} images; the limit maxImages is ${limit}.`,
      where,
      fix: 'send fewer images, or raise the limit.',
    });
  }
}

/** The prompt does not have as many places for images as it has images, or a place's tokens are not as many as the image's. */
export class ImagePlacesError extends GraftError {
  constructor(what: string, where: string, fix: string) {
    super({ code: 'GRAFT_IMAGE_PLACES', what, where, fix });
  }
}

/** The model was given an image, and reads text alone. */
export class ModelReadsNoImagesError extends GraftError {
  constructor(model: string, where: string) {
    super({
      code: 'GRAFT_MODEL_READS_NO_IMAGES',
      what: `The model ${model} reads no images, only text.`,
      where,
      fix: 'leave the images out, or ask a model with a vision tower.',
    });
  }
}
