import type { TensorType } from '@graft/ggml';
import { aligned, float16ToNumber, quantBlock, type WeightStorage } from '@graft/graph';

/** A weight in blocks of ggml's, which hold exactly the values of the storage. */
export interface PackedBlocks {
  readonly type: TensorType;
  readonly bytes: Uint8Array;
}

/** The storage in ggml's Q8_0, Q4_0 or Q4_1; null where a scale, an offset or a zero point does not fit exactly. */
export function packBlocks(storage: WeightStorage): PackedBlocks | null {
  const read = (name: string): Uint8Array => storage.parts[name]!.read();
  const scales = halvesOf(aligned(read('scales'), Float32Array));
  if (scales === null) return null;
  const quants = read('quants');
  if (storage.format === 'int8b32') {
    if (read('zeroPoints').some((zero) => zero !== 128)) return null;
    return { type: 'Q8_0', bytes: join([scales], quants.length / quantBlock, quantBlock, (at) => (quants[at]! - 128) & 255) };
  }
  // A byte of ours has two neighbours, the first one low; one of ggml's has elements i and i + 16.
  const nibble = (block: number, i: number): number => (quants[block * 16 + (i >> 1)]! >> ((i & 1) * 4)) & 15;
  const byte = (at: number): number => nibble(at >> 4, at & 15) | (nibble(at >> 4, (at & 15) + 16) << 4);
  const blocks = quants.length / 16;
  if (storage.format === 'int4b32') return { type: 'Q4_0', bytes: join([scales], blocks, 16, byte) };
  const [zeros, values] = [read('zeroPoints'), aligned(read('scales'), Float32Array)];
  const least = halvesOf(aligned(read('offsets'), Float32Array).map((offset, i) => offset - zeros[i]! * values[i]!));
  return least === null ? null : { type: 'Q4_1', bytes: join([scales, least], blocks, 16, byte) };
}

/** Blocks that begin with one float16 of each list, then `count` bytes. */
function join(heads: readonly Uint16Array[], blocks: number, count: number, byte: (at: number) => number): Uint8Array {
  const width = 2 * heads.length + count;
  const bytes = new Uint8Array(blocks * width);
  for (let block = 0; block < blocks; block++) {
    let at = block * width;
    for (const head of heads) {
      bytes[at++] = head[block]! & 255;
      bytes[at++] = head[block]! >> 8;
    }
    for (let i = 0; i < count; i++) bytes[at + i] = byte(block * count + i);
  }
  return bytes;
}

const words = new Float32Array(1);
const bits = new Uint32Array(words.buffer);

/** The bits of float16 of numbers that all are float16 numbers; null otherwise. */
function halvesOf(values: Float32Array): Uint16Array | null {
  const halves = new Uint16Array(values.length);
  for (const [i, value] of values.entries()) {
    halves[i] = halfOf(value);
    if (float16ToNumber(halves[i]!) !== value) return null;
  }
  return halves;
}

/** The bits of float16 of a number that is one; of another number, those of a number near it. */
export function halfOf(value: number): number {
  words[0] = value;
  const sign = (bits[0]! >>> 16) & 0x8000;
  const size = Math.abs(value);
  if (size === 0) return sign;
  if (size < 2 ** -14) return sign | Math.floor(size * 2 ** 24);
  if (size >= 65536) return sign | 0x7c00;
  return sign | ((((bits[0]! >>> 23) & 255) - 112) << 10) | ((bits[0]! >>> 13) & 1023);
}
