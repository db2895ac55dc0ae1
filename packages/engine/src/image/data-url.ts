import { ImageBytesError, ImageTypeError, ImageUrlError } from './errors.ts';
import { imageMediaTypes } from './image-format.ts';

export interface DataUrlImage {
  /** In lower case; one of PNG, JPEG, WebP, GIF. */
  mediaType: string;
  bytes: Uint8Array;
}

/** A media type and `;base64`, without other parameters. */
const head = /^data:([a-z0-9.+-]+\/[a-z0-9.+-]+);base64$/i;
const longestHead = 100;

/**
 * Decodes an image in a `data:` URL (RFC 2397), strictly: `data:image/...;base64,`, then padded base64 of the standard alphabet. Node's decoder would skip unknown
 * characters and silently give other bytes. The size is checked before anything is decoded.
 * @param options `maxBytes` of the decoded image; `where` is the URL's key in the request, for errors.
 * @throws ImageUrlError for another form; ImageTypeError for another media type; ImageBytesError above `maxBytes`.
 */
export function parseImageDataUrl(url: string, { maxBytes, where = 'image_url' }: { maxBytes: number; where?: string }): DataUrlImage {
  const comma = url.slice(0, longestHead).indexOf(',');
  const mediaType = comma < 0 ? undefined : head.exec(url.slice(0, comma))?.[1]?.toLowerCase();
  if (mediaType === undefined)
    throw new ImageUrlError(`The image's URL begins with ${JSON.stringify(url.slice(0, 32))}, not with a base64 "data:" URL.`, where);
  if (!imageMediaTypes.includes(mediaType)) throw new ImageTypeError(`The media type "${mediaType}" is not supported.`, where);
  return { mediaType, bytes: decodeBase64(url.slice(comma + 1), maxBytes, where) };
}

function decodeBase64(text: string, maxBytes: number, where: string): Uint8Array {
  if (text === '') throw new ImageUrlError('The "data:" URL holds no bytes.', where);
  if (text.length % 4 !== 0)
    throw new ImageUrlError(`The base64 text has ${text.length} characters, not a multiple of 4: it is cut off, or not padded.`, where);
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const length = (text.length / 4) * 3 - padding;
  if (length > maxBytes) throw new ImageBytesError(length, maxBytes, where);
  const stray = text.slice(0, text.length - padding).search(/[^A-Za-z0-9+/]/);
  if (stray >= 0)
    throw new ImageUrlError(`The base64 text has ${JSON.stringify(text[stray])} at character ${stray}, which base64 does not use.`, where);
  return new Uint8Array(Buffer.from(text, 'base64'));
}
