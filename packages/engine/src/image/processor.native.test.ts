import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openFileBytes, readSafetensorsHeader } from '@graft/core-model';
import { aligned } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import { ImageProcessor, type ProcessedImage } from './processor.ts';

const folder = new URL('../../../../tests/fixtures/images/', import.meta.url);
const names = ['56x56', '40x30', '200x90', '90x200', '300x300', '61x400', '113x57', '1x1'];
const image = (name: string): Uint8Array => readFileSync(new URL(`${name}.png`, folder));
const published = readPublished();

/** What the published processor gives, with its tiles of 56 pixels and at most 4 of them; make_images.py there. */
function readPublished() {
  const file = openFileBytes(fileURLToPath(new URL('images.safetensors', folder)));
  try {
    const { tensors } = readSafetensorsHeader(file);
    const bytes = (key: string): Uint8Array => {
      const { offset, byteLength } = tensors.get(key)!;
      return file.read(offset, byteLength);
    };
    return names.map((name) => ({
      name,
      tiles: tensors.get(`${name}.pixel_values`)!.shape[0]!,
      pixelValues: aligned(bytes(`${name}.pixel_values`), Float32Array),
      aspectRatio: Array.from(aligned(bytes(`${name}.aspect_ratio`), BigInt64Array), Number),
    }));
  } finally {
    file.close();
  }
}

const processor = new ImageProcessor({ tileSide: 56, maxTiles: 4 });
const processOne = async (bytes: Uint8Array, by = processor): Promise<ProcessedImage> => (await by.process([bytes]))[0]!;

describe.each(published)('the processor on $name.png', ({ name, ...expected }) => {
  test('gives the published count of tiles and aspect ratio', async () => {
    const { tiles, aspectRatio, pixelValues } = await processOne(image(name));
    expect({ tiles, aspectRatio: [aspectRatio.rows, aspectRatio.columns] }).toEqual({
      tiles: expected.tiles,
      aspectRatio: expected.aspectRatio,
    });
    expect(pixelValues).toHaveLength(expected.tiles * 3 * 56 * 56);
  });

  test('gives every pixel value exactly, so that no resampling differs', async () => {
    const { pixelValues } = await processOne(image(name));
    expect(Buffer.from(pixelValues.buffer).equals(Buffer.from(expected.pixelValues.slice().buffer))).toBe(true);
  });
});

test('the images of a request come back in its order', async () => {
  const processed = await processor.process([image('1x1'), image('300x300'), image('200x90')]);
  expect(processed.map(({ tiles }) => tiles)).toEqual([1, 5, 4]);
});

test('a request with an image too many is refused before any is read', async () => {
  const two = new ImageProcessor({ limits: { maxImages: 2 } });
  const broken = new Uint8Array();
  await expect(two.process([broken, broken, broken])).rejects.toMatchObject({ code: 'GRAFT_IMAGE_COUNT' });
});

test('the image at fault is named', async () => {
  await expect(processor.process([image('1x1'), new Uint8Array()])).rejects.toMatchObject({ code: 'GRAFT_IMAGE_TYPE', where: 'images.1' });
});

test('an aborted request ends with the reason of its signal', async () => {
  const reason = new Error('the client left');
  await expect(processor.process([image('1x1')], { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});

test("the defaults are the published checkpoints': tiles of 336, at most 16, a global one besides", async () => {
  const { tiles, pixelValues } = await processOne(image('300x300'), new ImageProcessor());
  expect({ tiles, length: pixelValues.length }).toEqual({ tiles: 1, length: 3 * 336 * 336 });
});

test('an unknown option is answered with the nearest name', () => {
  expect(() => new ImageProcessor({ maxTile: 4 } as never)).toThrowError('did you mean "maxTiles"');
});
