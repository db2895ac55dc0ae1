import type { RgbImage } from './resize.ts';

/** To the nearest bfloat16, ties to even. */
function rounded(value: number): number {
  const floats = Float32Array.of(value);
  const bits = new Uint32Array(floats.buffer);
  bits[0] = (bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) & 0xffff0000;
  return floats[0]!;
}

/** `(byte / 255 - 0.5) / 0.5` for each byte, rounded to bfloat16 after every step, as the published processor computes. */
const normalised: Float32Array = Float32Array.from({ length: 256 }, (_, byte) => {
  const scaled = rounded(byte * Math.fround(1 / 255));
  return rounded(rounded(scaled - 0.5) / 0.5);
});

/**
 * Writes one tile, channels first and normalised; black outside the image.
 * @param image fills the canvas's upper left corner.
 * @param origin of the tile in the canvas, in pixels.
 * @param out `[3, side, side]`.
 */
export function writeTile(image: RgbImage, { x: left, y: top }: { x: number; y: number }, side: number, out: Float32Array): void {
  out.fill(normalised[0]!);
  const width = Math.min(side, image.width - left);
  const height = Math.min(side, image.height - top);
  for (let channel = 0; channel < 3; channel++) {
    for (let y = 0; y < height; y++) {
      const from = ((top + y) * image.width + left) * 3 + channel;
      const to = (channel * side + y) * side;
      for (let x = 0; x < width; x++) out[to + x] = normalised[image.pixels[from + x * 3]!]!;
    }
  }
}
