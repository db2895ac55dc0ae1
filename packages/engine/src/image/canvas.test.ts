import { describe, expect, test } from 'vitest';
import { publishedPlacements } from './canvas.fixture.ts';
import { canvasesOf, placeOnCanvas } from './canvas.ts';

test.each(publishedPlacements)(
  'an image %i high and %i wide is placed as published (tiles of %i, at most %i, to the largest canvas: %s)',
  (...row) => {
    const [height, width, tileSide, maxTiles, resizeToMaxCanvas, ...expected] = row;
    const { rows, columns, size } = placeOnCanvas({ height, width }, { tileSide, maxTiles, resizeToMaxCanvas });
    expect([rows, columns, size.height, size.width]).toEqual(expected);
  },
);

describe('the canvases', () => {
  test('of at most 4 tiles are the eight rectangles, those of one ratio together', () => {
    const found = canvasesOf(4).map(({ rows, columns }) => `${rows}x${columns}`);
    expect(found).toEqual(['1x4', '2x2', '1x1', '4x1', '1x3', '3x1', '1x2', '2x1']);
  });
});

test('an image of one pixel by a million keeps a pixel of width', () => {
  const { rows, size } = placeOnCanvas({ height: 1_000_000, width: 1 }, { tileSide: 56, maxTiles: 4, resizeToMaxCanvas: false });
  expect({ rows, size }).toEqual({ rows: 4, size: { height: 224, width: 1 } });
});
