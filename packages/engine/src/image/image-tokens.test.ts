import { expect, test } from 'vitest';
import { imageTokenLayout, llama4ImageTokens, patchesPerTile } from './image-tokens.ts';

const short = { imageStart: '[', imageEnd: ']', image: 'I', patch: 'p', tileX: 'x', tileY: 'y' };

// `_prompt_split_image` of the published processor, with its tokens shortened
test.each([
  [{ rows: 1, columns: 1 }, '[Ipp]'],
  [{ rows: 1, columns: 3 }, '[ppxppxppyIpp]'],
  [{ rows: 3, columns: 1 }, '[ppyppyppyIpp]'],
  [{ rows: 2, columns: 2 }, '[ppxppyppxppyIpp]'],
])('a canvas of %o with two patches a tile is %s', (aspectRatio, expected) => {
  expect(imageTokenLayout(aspectRatio, 2, short).join('')).toBe(expected);
});

test('the layout takes ids as well as texts', () => {
  const ids = { imageStart: 1, imageEnd: 2, image: 3, patch: 4, tileX: 5, tileY: 6 };
  expect(imageTokenLayout({ rows: 1, columns: 2 }, 1, ids)).toEqual([1, 4, 5, 4, 6, 3, 4, 2]);
});

test("Llama 4's texts give the published string", () => {
  expect(imageTokenLayout({ rows: 1, columns: 1 }, 1, llama4ImageTokens).join('')).toBe('<|image_start|><|image|><|patch|><|image_end|>');
});

test.each([
  { tileSide: 336, patchSize: 14, expected: 144 },
  { tileSide: 56, patchSize: 14, expected: 4 },
])('a tile of $tileSide pixels has $expected positions, a quarter of its patches of $patchSize', ({ tileSide, patchSize, expected }) => {
  expect(patchesPerTile(tileSide, patchSize, 0.5)).toBe(expected);
});
