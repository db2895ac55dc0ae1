import { messageOf } from '@graft/common';
import { ImageBrokenError, ImageBytesError, ImageFramesError, ImagePixelsError, ImageSideError } from './errors.ts';
import type { ImageLimits } from './image-config.ts';
import { imageFormatOf } from './image-format.ts';
import type { RgbImage } from './resize.ts';

/** The longest side of a JPEG, WebP or GIF. Resizing a PNG of one pixel by 40 million, a file of some KB, would take gigabytes. */
const longestSide = 65_535;

/**
 * Decodes a PNG, JPEG, WebP or GIF (its first frame) in the library's threads. Applies the EXIF orientation; transparency becomes white, grey and CMYK become RGB,
 * 16 bits become 8; colour profiles are ignored. The limits are checked against the file's header, before a pixel is decoded.
 * @param where names the image in errors.
 * @throws ImageTypeError, ImageBytesError, ImagePixelsError, ImageSideError, ImageFramesError; ImageBrokenError for a truncated or damaged file.
 */
export async function decodeImage(bytes: Uint8Array, limits: ImageLimits, where: string): Promise<RgbImage> {
  if (bytes.length > limits.maxImageBytes) throw new ImageBytesError(bytes.length, limits.maxImageBytes, where);
  const format = imageFormatOf(bytes, where);
  const { default: sharp } = await import('sharp'); // loaded only when an image comes
  const broken = (error: unknown): never => {
    throw new ImageBrokenError(`This ${format} cannot be decoded: ${firstLineOf(messageOf(error))}.`, where, error);
  };
  const head = sharp(bytes, { failOn: 'error', limitInputPixels: false }); // its error would not tell the size
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

/** The library lists every problem, one a line. */
function firstLineOf(message: string): string {
  return message.split('\n')[0]!.replace(/[\s:.]+$/, '');
}
