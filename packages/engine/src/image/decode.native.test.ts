import { readFileSync } from 'node:fs';
import { GraftError } from '@graft/common';
import fc from 'fast-check';
import sharp, { type Sharp } from 'sharp';
import { expect, test } from 'vitest';
import { decodeImage } from './decode.ts';
import { ImageLimits } from './image-config.ts';
import type { RgbImage } from './resize.ts';

const limits = ImageLimits.parse({});
const png = readFileSync(new URL('../../../../tests/fixtures/images/300x300.png', import.meta.url));

/** Red on the left, blue on the right. */
const twoColours = (): Sharp => sharp(Uint8Array.of(250, 0, 0, 0, 0, 250), { raw: { width: 2, height: 1, channels: 3 } });
const enlarged = (): Sharp => twoColours().resize(64, 32, { kernel: 'nearest', fit: 'fill' });
const blank = (width: number, height: number): Sharp => sharp({ create: { width, height, channels: 3, background: '#102030' } });
const gif = (frames: number): Promise<Buffer> =>
  Promise.all(
    Array.from({ length: frames }, (_, frame) =>
      sharp({ create: { width: 8, height: 8, channels: 3, background: { r: frame * 60, g: 0, b: 0 } } })
        .png()
        .toBuffer(),
    ),
  ).then((images) =>
    sharp(images, { join: { animated: true } })
      .gif()
      .toBuffer(),
  );

/** A JPEG whose head says 65000 x 65000: 4 G pixels in a few hundred bytes. */
async function jpegBomb(): Promise<Buffer> {
  const bytes = await blank(8, 8).jpeg().toBuffer();
  const frame = bytes.indexOf(Buffer.of(0xff, 0xc0)); // then its length in 2 bytes, the precision in 1, height and width
  bytes.writeUInt16BE(65_000, frame + 5);
  bytes.writeUInt16BE(65_000, frame + 7);
  return bytes;
}

const decode = (bytes: Uint8Array, changed: Partial<ImageLimits> = {}) => decodeImage(bytes, { ...limits, ...changed }, 'images.0');
const truncated = (bytes: Buffer): Buffer => bytes.subarray(0, Math.floor(bytes.length / 2));

interface Broken {
  what: string;
  bytes: () => Uint8Array | Promise<Uint8Array>;
  code: string;
  changed?: Partial<ImageLimits>;
}

const broken: Broken[] = [
  { what: 'no bytes', bytes: () => new Uint8Array(), code: 'GRAFT_IMAGE_TYPE' },
  { what: 'text', bytes: () => Buffer.from('hello, world'), code: 'GRAFT_IMAGE_TYPE' },
  { what: 'a single byte', bytes: () => Uint8Array.of(0x89), code: 'GRAFT_IMAGE_TYPE' },
  { what: 'SVG', bytes: () => Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'), code: 'GRAFT_IMAGE_TYPE' },
  { what: 'TIFF, which the library could open', bytes: () => blank(8, 8).tiff().toBuffer(), code: 'GRAFT_IMAGE_TYPE' },
  { what: 'RIFF that is no WebP', bytes: () => Buffer.from('RIFF\0\0\0\0WAVEfmt '), code: 'GRAFT_IMAGE_TYPE' },
  { what: 'a PNG signature alone', bytes: () => png.subarray(0, 8), code: 'GRAFT_IMAGE_BROKEN' },
  { what: 'a truncated PNG', bytes: () => truncated(png), code: 'GRAFT_IMAGE_BROKEN' },
  { what: 'a PNG with damaged bytes', bytes: () => Buffer.from(png).fill(0x55, 200, 260), code: 'GRAFT_IMAGE_BROKEN' },
  { what: 'a truncated JPEG', bytes: async () => truncated(await enlarged().jpeg().toBuffer()), code: 'GRAFT_IMAGE_BROKEN' },
  {
    what: 'a truncated WebP',
    bytes: async () => truncated(await enlarged().webp({ lossless: true }).toBuffer()),
    code: 'GRAFT_IMAGE_BROKEN',
  },
  { what: 'a truncated GIF', bytes: async () => truncated(await blank(8, 8).gif().toBuffer()), code: 'GRAFT_IMAGE_BROKEN' },
  { what: 'a JPEG that claims 4 G pixels', bytes: jpegBomb, code: 'GRAFT_IMAGE_PIXELS' },
  { what: 'a PNG of 48 M pixels in few bytes', bytes: () => blank(12_000, 4000).png().toBuffer(), code: 'GRAFT_IMAGE_PIXELS' },
  { what: 'a PNG of one pixel by a hundred thousand', bytes: () => blank(1, 100_000).png().toBuffer(), code: 'GRAFT_IMAGE_SIDE' },
  { what: 'one pixel too many', bytes: () => png, changed: { maxImagePixels: 300 * 300 - 1 }, code: 'GRAFT_IMAGE_PIXELS' },
  { what: 'one byte too many', bytes: () => png, changed: { maxImageBytes: png.length - 1 }, code: 'GRAFT_IMAGE_BYTES' },
  { what: 'one frame too many', bytes: () => gif(4), changed: { maxImageFrames: 3 }, code: 'GRAFT_IMAGE_FRAMES' },
];

test.each(broken)('$what is refused with $code', async ({ bytes, code, changed }) => {
  await expect(decode(await bytes(), changed)).rejects.toMatchObject({ code, where: 'images.0' });
});

test.each(['png', 'jpeg', 'webp', 'gif'] as const)('a %s with any bytes changed is an image still, or an error of ours', async (format) => {
  const sound = await enlarged().toFormat(format).toBuffer();
  const change = fc.tuple(fc.nat(sound.length - 1), fc.nat(255));
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 8 }), async (changes) => {
      const bytes = Buffer.from(sound);
      for (const [at, value] of changes) bytes[at] = value;
      const result = await decode(bytes, { maxImagePixels: 1_000_000 }).catch((error: unknown) => error);
      if (GraftError.is(result)) return;
      const { pixels, width, height } = result as RgbImage;
      expect(pixels).toHaveLength(width * height * 3);
    }),
    { numRuns: 60 },
  );
});

test('an image of exactly the limits is decoded', async () => {
  const image = await decode(png, { maxImagePixels: 300 * 300, maxImageBytes: png.length, maxImageFrames: 1 });
  expect(image).toMatchObject({ width: 300, height: 300 });
  expect(image.pixels).toHaveLength(300 * 300 * 3);
});

test('of an animated image the first frame is taken', async () => {
  const image = await decode(await gif(3));
  expect(image).toMatchObject({ width: 8, height: 8 });
  expect([...image.pixels.subarray(0, 3)]).toEqual([0, 0, 0]);
});

test.each([
  ['a PNG of 16 bits', () => twoColours().toColourspace('rgb16').png().toBuffer(), [250, 0, 0, 0, 0, 250]],
  ['a PNG with a palette', () => twoColours().png({ palette: true }).toBuffer(), [250, 0, 0, 0, 0, 250]],
  ['a lossless WebP', () => twoColours().webp({ lossless: true }).toBuffer(), [250, 0, 0, 0, 0, 250]],
  [
    'a grey PNG',
    () =>
      sharp(Uint8Array.of(9, 200), { raw: { width: 2, height: 1, channels: 1 } })
        .toColourspace('b-w')
        .png()
        .toBuffer(),
    [9, 9, 9, 200, 200, 200],
  ],
  [
    'a half transparent PNG',
    () =>
      sharp(Uint8Array.of(100, 0, 0, 0, 0, 0, 0, 255), { raw: { width: 2, height: 1, channels: 4 } })
        .png()
        .toBuffer(),
    [255, 255, 255, 0, 0, 0],
  ],
])('%s becomes RGB of 8 bits, on white', async (_, make, expected) => {
  expect([...(await decode(await make())).pixels]).toEqual(expected);
});

test('a CMYK JPEG becomes RGB', async () => {
  const { pixels, width, height } = await decode(await enlarged().toColourspace('cmyk').jpeg().toBuffer());
  expect(pixels).toHaveLength(width * height * 3);
  expect(pixels[0]!).toBeGreaterThan(pixels[2]!); // red on the left
});

test('a photo is turned upright by its EXIF orientation', async () => {
  const turned = await enlarged().jpeg({ quality: 100 }).withMetadata({ orientation: 6 }).toBuffer(); // a quarter to the right
  const { width, height, pixels } = await decode(turned);
  expect({ width, height }).toEqual({ width: 32, height: 64 });
  expect(pixels[0]!).toBeGreaterThan(200); // red is on top now
});

test('what the library says of a damaged file is one sentence', async () => {
  const error: unknown = await decode(truncated(await enlarged().jpeg().toBuffer()).subarray(0, 30)).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ what: expect.stringMatching(/^This jpeg cannot be decoded: [^\n]*[^\s:.]\.$/) });
});
