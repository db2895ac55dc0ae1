import { expect, test } from 'vitest';
import { llama4 } from './llama4.ts';

const short: Record<string, string> = {
  '<|image_start|>': '[',
  '<|image_end|>': ']',
  '<|image|>': 'I',
  '<|patch|>': 'p',
  '<|tile_x_separator|>': 'x',
  '<|tile_y_separator|>': 'y',
};

// `_prompt_split_image` of the published processor, with its tokens shortened
test.each([
  [{ rows: 1, columns: 1 }, '[Ipp]'],
  [{ rows: 1, columns: 3 }, '[ppxppxppyIpp]'],
  [{ rows: 3, columns: 1 }, '[ppyppyppyIpp]'],
  [{ rows: 2, columns: 2 }, '[ppxppyppxppyIpp]'],
])('a canvas of %o with two patches a tile is %s', (aspectRatio, expected) => {
  const layout = llama4.images!.layout(aspectRatio, 2);
  expect(layout.map((token) => short[token]).join('')).toBe(expected);
});
