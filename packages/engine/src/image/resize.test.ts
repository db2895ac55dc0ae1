import { expect, test } from 'vitest';
import { resizeBilinear } from './resize.ts';

/** One row of grey. */
const row = (...greys: number[]) => ({
  width: greys.length,
  height: 1,
  pixels: Uint8Array.from(greys.flatMap((grey) => [grey, grey, grey])),
});
const reds = (pixels: Uint8Array): number[] => [...pixels].filter((_, index) => index % 3 === 0);

test('an image of the size that is asked for is returned as it is', async () => {
  const image = row(1, 2, 3);
  expect(await resizeBilinear(image, { height: 1, width: 3 })).toBe(image);
});

// torch.nn.functional.interpolate(uint8, mode='bilinear', antialias=True), PyTorch 2.13 on a CPU with AVX2
test('enlarging a black and a white pixel to four interpolates between their centres', async () => {
  const { pixels } = await resizeBilinear(row(0, 255), { height: 1, width: 4 });
  expect(reds(pixels)).toEqual([0, 64, 191, 255]);
});

test('reducing takes the mean of all that a pixel covers, weighted by a triangle, so that no fine stripe is lost', async () => {
  const { pixels } = await resizeBilinear(row(0, 255, 0, 255, 0, 255, 0, 255), { height: 1, width: 2 });
  expect(reds(pixels)).toEqual([118, 137]);
});

test('the channels do not mix, and rows are reduced as columns are', async () => {
  const column = { width: 1, height: 2, pixels: Uint8Array.of(10, 20, 30, 30, 60, 90) };
  const { pixels } = await resizeBilinear(column, { height: 1, width: 1 });
  expect([...pixels]).toEqual([20, 40, 60]);
});

test('the event loop turns while a large image is resized', async () => {
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  const image = { width: 3000, height: 2000, pixels: new Uint8Array(3000 * 2000 * 3).fill(7) };
  const { pixels } = await resizeBilinear(image, { height: 20, width: 30 });
  clearInterval(timer);
  expect(turns).toBeGreaterThan(3);
  expect(pixels.every((value) => value === 7)).toBe(true);
});
