import { ImageTypeError } from './errors.ts';

export type ImageFormat = 'png' | 'jpeg' | 'webp' | 'gif';

/** The media types of a `data:` URL. `image/jpg` is wrong but as common as the right name. */
export const imageMediaTypes: readonly string[] = ['image/png', 'image/jpeg', 'image/jpg', 'image/webp', 'image/gif'];

const startsWith = (bytes: Uint8Array, at: number, expected: readonly number[]): boolean =>
  expected.every((byte, index) => bytes[at + index] === byte);
const ascii = (text: string): number[] => [...text].map((character) => character.charCodeAt(0));

const signatures: readonly { format: ImageFormat; holds: (bytes: Uint8Array) => boolean }[] = [
  { format: 'png', holds: (bytes) => startsWith(bytes, 0, [0x89, ...ascii('PNG\r\n'), 0x1a, 0x0a]) },
  { format: 'jpeg', holds: (bytes) => startsWith(bytes, 0, [0xff, 0xd8, 0xff]) },
  { format: 'webp', holds: (bytes) => startsWith(bytes, 0, ascii('RIFF')) && startsWith(bytes, 8, ascii('WEBP')) },
  { format: 'gif', holds: (bytes) => startsWith(bytes, 0, ascii('GIF87a')) || startsWith(bytes, 0, ascii('GIF89a')) },
];

/**
 * Detects the format by the first bytes; the sender's media type does not matter. Only these four formats reach the library. It opens other formats too, and some of those read
 * other files (SVG) or run programs (PDF).
 * @throws ImageTypeError for anything else, an empty file included.
 */
export function imageFormatOf(bytes: Uint8Array, where: string): ImageFormat {
  if (bytes.length === 0) throw new ImageTypeError('The image is empty: 0 bytes.', where);
  const found = signatures.find(({ holds }) => holds(bytes));
  if (found !== undefined) return found.format;
  const beginning = Buffer.from(bytes.subarray(0, 8)).toString('hex');
  throw new ImageTypeError(`These ${bytes.length} bytes are not a supported image: they begin with ${beginning}.`, where);
}
