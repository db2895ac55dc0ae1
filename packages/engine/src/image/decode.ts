import { messageOf } from '@graft/common';
import { ImageBrokenError, ImageBytesError, ImageFramesError, ImagePixelsError, ImageSideError } from './errors.ts';
import type { ImageLimits } from './image-config.ts';
import { imageFormatOf } from './image-format.ts';
import type { RgbImage } from './resize.ts';

/** The longest side that a JPEG, WebP or GIF can have. A PNG of one pixel by 40 million, some KB, would be resized through gigabytes. */
const longestSide = 65_535;

/**
 * Decodes a PNG, JPEG, WebP or GIF (its first frame) in the library's threads. Turned upright by its EXIF orientation; what is transparent becomes white; grey and CMYK
 * become RGB, 16 bits become 8; colour profiles are not applied. The limits are held against the file's head, before a pixel is decoded.
 * @param where names the image in errors.
 * @throws ImageTypeError, ImageBytesError, ImagePixelsError, ImageSideError, ImageFramesError; ImageBrokenError for a file that is cut off or damaged.
 */
export async function decodeImage(bytes: Uint8Array, limits: ImageLimits, where: string): Promise<RgbImage> {
  if (bytes.length > limits.maxImageBytes) throw new ImageBytesError(bytes.length, limits.maxImageBytes, where);
  const format = imageFormatOf(bytes, where);
  const { default: sharp } = await import('sharp'); // only who sends images pays for loading it
  const broken = (error: unknown): never => {
    throw new ImageBrokenError(`This ${format} cannot be decoded: ${firstLineOf(messageOf(error))}.`, where, error);
  };
  const head = sharp(bytes, { failOn: 'error', limitInputPixels: false }); // its own limit would not say the size
  const { width, height, pages = 1, hasAlpha } = await head.metadata().catch(broken);
  if (width * height > limits.maxImagePixels) throw new ImagePixelsError(width, height, limits.maxImagePixels, where);
  if (Math.max(width, height) > longestSide) throw new ImageSideError(width, height, longestSide, where);
  if (pages > limits.maxImageFrames) throw new ImageFramesError(pages, limits.maxImageFrames, where);
  const image = sharp(bytes, { failOn: 'error', ignoreIcc: true, limitInputPixels: limits.maxImagePixels });
  const opaque = hasAlpha ? image.flatten({ background: '#ffffff' }) : image;
  const rgb = opaque.autoOrient().toColourspace('srgb').raw({ depth: 'uchar' });
  const { data, info } = await rgb.toBuffer({ resolveWithObject: true }).catch(broken);
  return { pixels: data, width: info.width, height: info.height };
}

/** The library tells each thing that it met on a line of its own, the first after its own words. */
function firstLineOf(message: string): string {
  return message.split('\n')[0]!.replace(/[\s:.]+$/, '');
}
