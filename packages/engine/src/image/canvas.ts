/** Tiles of a canvas. */
export interface AspectRatio {
  /** Tiles down. */
  rows: number;
  /** Tiles across. */
  columns: number;
}

/** In pixels. */
export interface Size {
  height: number;
  width: number;
}

export interface CanvasOptions {
  /** Pixels. */
  tileSide: number;
  maxTiles: number;
  resizeToMaxCanvas: boolean;
}

export interface Placement extends AspectRatio {
  /** The image's new size, without distortion. It fills the canvas's upper left corner; the rest is padding. */
  size: Size;
}

/**
 * Chooses the canvas of tiles for an image, and the image's size on it. As published: the canvas that enlarges the image least, else the one that shrinks it least; of
 * equals the smallest. Images are enlarged only up to one tile's side, unless `resizeToMaxCanvas`.
 */
export function placeOnCanvas(image: Size, options: CanvasOptions): Placement {
  const canvas = bestCanvas(image, options);
  const width = canvas.columns * options.tileSide;
  const height = canvas.rows * options.tileSide;
  const limit = options.resizeToMaxCanvas ? Number.POSITIVE_INFINITY : options.tileSide;
  const target = { height: sideWithin(image.height, limit, height), width: sideWithin(image.width, limit, width) };
  return { ...canvas, size: sizeWithin(image, target) };
}

/** Canvases of at most `maxTiles` tiles, grouped by ratio, in the published order: the first of two equally good and equally large ones is taken. */
export function canvasesOf(maxTiles: number): AspectRatio[] {
  const byRatio = new Map<number, AspectRatio[]>();
  for (let tiles = maxTiles; tiles >= 1; tiles--) {
    for (let rows = 1; rows <= tiles; rows++) {
      if (tiles % rows !== 0) continue;
      const canvas = { rows, columns: tiles / rows };
      const ratio = canvas.rows / canvas.columns;
      byRatio.set(ratio, [...(byRatio.get(ratio) ?? []), canvas]);
    }
  }
  return [...byRatio.values()].flat();
}

/** Compares scales in float32, as published: scales that are equal there go to the smaller canvas. */
function bestCanvas(image: Size, { tileSide, maxTiles, resizeToMaxCanvas }: CanvasOptions): AspectRatio {
  const canvases = canvasesOf(maxTiles).map((canvas) => {
    const across = Math.fround((canvas.columns * tileSide) / image.width);
    const down = Math.fround((canvas.rows * tileSide) / image.height);
    return { canvas, scale: Math.min(across, down) };
  });
  const scales = canvases.map(({ scale }) => scale);
  const enlarging = scales.filter((scale) => scale >= 1);
  const chosen = enlarging.length > 0 && !resizeToMaxCanvas ? Math.min(...enlarging) : Math.max(...scales);
  const equals = canvases.filter(({ scale }) => scale === chosen).map(({ canvas }) => canvas);
  return equals.reduce((best, one) => (one.rows * one.columns < best.rows * best.columns ? one : best));
}

/** A side's length, and whether the published processor computes with it in float32 (it holds a tensor there). */
interface Side {
  length: number;
  single: boolean;
}

function sideWithin(length: number, limit: number, canvas: number): Side {
  const wanted = Math.max(length, limit);
  return canvas < wanted ? { length: canvas, single: true } : { length: wanted, single: false };
}

const scaleOf = ({ length, single }: Side, original: number): number => (single ? Math.fround(length / original) : length / original);

/**
 * The largest size within the target that keeps the image's ratio; at least one pixel a side. The last pixel depends on the arithmetic, so it follows the published
 * one: float32 for a side that the canvas limits, double elsewhere.
 */
function sizeWithin(image: Size, target: { height: Side; width: Side }): Size {
  const across = scaleOf(target.width, image.width);
  const down = scaleOf(target.height, image.height);
  const single = target.width.single || target.height.single;
  const widthLimits = single ? Math.fround(across) < Math.fround(down) : across < down;
  const scale = widthLimits ? across : down;
  const inFloat32 = widthLimits ? target.width.single : target.height.single;
  const scaled = (length: number): number => Math.floor(inFloat32 ? Math.fround(length * scale) : length * scale);
  const height = widthLimits ? Math.min(scaled(image.height), target.height.length) : target.height.length;
  const width = widthLimits ? target.width.length : Math.min(scaled(image.width), target.width.length);
  return { height: Math.max(height, 1), width: Math.max(width, 1) };
}
