import { codebooks } from './codebooks.ts';
import { CheckpointCorruptError, type Origin } from './errors.ts';
import { float16Table } from './half-precision.ts';

/** One unpacked block: element i is `scales[g] * quants[i] + mins[g]`, where g = floor(i / 16). */
export class UnpackedBlock {
  readonly quants = new Int8Array(256);
  readonly scales = new Float32Array(16);
  readonly mins = new Float32Array(16);

  /** Sets the scale and minimum of `count` groups of 16 from `first` on. */
  group(first: number, count: number, scale: number, min = 0): void {
    for (let g = first; g < first + count; g++) {
      this.scales[g] = scale;
      this.mins[g] = min;
    }
  }
}

/** Reads one block of a tensor. Offsets are from the block's start. One reader serves a whole tensor: an object a block would take most of the time. */
export class BlockReader {
  private readonly bytes: Uint8Array;
  private readonly origin: Origin;
  private from = 0;
  private readonly halves = float16Table();
  /** The block that is read, counted from the first of `bytes`. */
  private index = 0;
  private readonly type: BlockType;

  constructor(type: BlockType, bytes: Uint8Array, origin: Origin) {
    this.type = type;
    this.bytes = bytes;
    this.origin = origin;
  }

  unpack(index: number, block: UnpackedBlock): void {
    this.index = index;
    this.from = index * this.type.bytes;
    this.type.unpack(this, block);
  }

  byte(offset: number): number {
    return this.bytes[this.from + offset]!;
  }

  uint16(offset: number): number {
    return this.bytes[this.from + offset]! | (this.bytes[this.from + offset + 1]! << 8);
  }

  /** @throws CheckpointCorruptError when it is not finite. */
  half(offset: number): number {
    return this.finite(this.halves[this.uint16(offset)]!);
  }

  float(offset: number): number {
    word[0] = this.uint16(offset) | (this.uint16(offset + 2) << 16);
    return this.finite(wordAsFloat[0]!);
  }

  private finite(value: number): number {
    if (Number.isFinite(value)) return value;
    const index = Math.floor(this.origin.firstElement / this.type.elements) + this.index;
    throw new CheckpointCorruptError(`Block ${index} holds ${value} as a scale.`, this.origin.where);
  }
}

const word = new Int32Array(1);
const wordAsFloat = new Float32Array(word.buffer);

type Unpack = (read: BlockReader, block: UnpackedBlock) => void;

/** An element type of GGML in blocks. llama.cpp: `ggml-common.h` (layout), `ggml-quants.c` (values). */
export interface BlockType {
  readonly elements: 32 | 256;
  readonly bytes: number;
  /** The least quant and the number of quants where the type is a plain grid `scale * q + min`; null where its quants are spread out. */
  readonly grid: { readonly low: number; readonly levels: number } | null;
  readonly unpack: Unpack;
}

const blockType = (elements: 32 | 256, bytes: number, grid: BlockType['grid'], unpack: Unpack): BlockType => ({
  elements,
  bytes,
  grid,
  unpack,
});

const grid = (low: number, levels: number) => ({ low, levels });

/** Two elements a byte: the low halves of `count` bytes, then the high ones. */
function nibbles(read: BlockReader, from: number, count: number, quants: Int8Array, to: number, low = 0): void {
  for (let i = 0; i < count; i++) {
    const pair = read.byte(from + i);
    quants[to + i] = (pair & 15) + low;
    quants[to + count + i] = (pair >> 4) + low;
  }
}

/** Replaces 32 quants by the values that they stand for. */
function lookUp(quants: Int8Array, to: number, values: readonly number[]): void {
  for (let i = to; i < to + 32; i++) quants[i] = values[quants[i]!]!;
}

/** Adds a fifth bit to 32 elements, one bit of four bytes each. */
function fifthBits(read: BlockReader, from: number, quants: Int8Array): void {
  for (let i = 0; i < 32; i++) quants[i] = quants[i]! + (((read.byte(from + (i >> 3)) >> (i & 7)) & 1) << 4);
}

/** Two bits an element: 32 bytes hold 128 elements, 32 for each pair of bits. */
function pairsOfBits(read: BlockReader, from: number, take: (element: number, bits: number) => void): void {
  for (let i = 0; i < 256; i++) take(i, (read.byte(from + (i >> 7) * 32 + (i & 31)) >> (2 * ((i >> 5) & 3))) & 3);
}

/** The eight scales and minima of 6 bits each that Q4_K and Q5_K share. */
function sixBitScales(read: BlockReader, block: UnpackedBlock): void {
  const [d, least] = [read.half(0), read.half(2)];
  for (let j = 0; j < 8; j++) {
    const [low, high, rest] = [read.byte(4 + (j & 3)), read.byte(8 + (j & 3)), read.byte(12 + (j & 3))];
    const scale = j < 4 ? low & 63 : (rest & 15) | ((low >> 2) & 48);
    const min = j < 4 ? high & 63 : (rest >> 4) | ((high >> 2) & 48);
    block.group(2 * j, 2, d * scale, -least * min);
  }
}

const nonLinear = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/** FP4 (E2M1), doubled. */
const fp4 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/** Eight elements of a codebook's row, each with a sign bit. */
function signed(quants: Int8Array, to: number, row: (i: number) => number, signs: number): void {
  for (let i = 0; i < 8; i++) quants[to + i] = ((signs >> i) & 1) === 1 ? -row(i) : row(i);
}

/** Seven sign bits; the eighth makes their number even. */
function evenSigns(bits: number): number {
  let parity = bits;
  for (let shift = 4; shift > 0; shift >>= 1) parity ^= parity >> shift;
  return bits | ((parity & 1) << 7);
}

/** A row of eight of IQ1's codebook, shifted by an eighth: in eighths, so that it is whole. */
function iq1Row(quants: Int8Array, to: number, row: number, isDown: boolean): void {
  for (let i = 0; i < 8; i++) quants[to + i] = 8 * codebooks.iq1[row * 8 + i]! + (isDown ? -1 : 1);
}

/** Three values a trit, in base 3 as a fraction of 256. */
const trit = (byte: number, digit: number): number => ((((byte * 3 ** digit) & 255) * 3) >> 8) - 1;

export const blockTypes: Readonly<Record<string, BlockType>> = {
  /** A run of a quantised safetensors matrix: scale, then as Q4_0. */
  GRID4_SYMMETRIC: blockType(32, 20, grid(-8, 16), (read, block) => {
    block.group(0, 2, read.float(0));
    nibbles(read, 4, 16, block.quants, 0, -8);
  }),
  /** Scale and minimum, then as Q4_1. */
  GRID4: blockType(32, 24, grid(0, 16), (read, block) => {
    block.group(0, 2, read.float(0), read.float(4));
    nibbles(read, 8, 16, block.quants, 0);
  }),
  /** Scale and minimum, then 8 bits for each quant. */
  GRID8: blockType(32, 40, grid(-128, 256), (read, block) => {
    const d = read.float(0);
    block.group(0, 2, d, read.float(4) + 128 * d);
    for (let i = 0; i < 32; i++) block.quants[i] = read.byte(8 + i) - 128;
  }),
  Q4_0: blockType(32, 18, grid(-8, 16), (read, block) => {
    block.group(0, 2, read.half(0));
    nibbles(read, 2, 16, block.quants, 0, -8);
  }),
  Q4_1: blockType(32, 20, grid(0, 16), (read, block) => {
    block.group(0, 2, read.half(0), read.half(2));
    nibbles(read, 4, 16, block.quants, 0);
  }),
  Q5_0: blockType(32, 22, grid(-16, 32), (read, block) => {
    block.group(0, 2, read.half(0));
    nibbles(read, 6, 16, block.quants, 0, -16);
    fifthBits(read, 2, block.quants);
  }),
  Q5_1: blockType(32, 24, grid(0, 32), (read, block) => {
    block.group(0, 2, read.half(0), read.half(2));
    nibbles(read, 8, 16, block.quants, 0);
    fifthBits(read, 4, block.quants);
  }),
  Q8_0: blockType(32, 34, grid(-128, 256), (read, block) => {
    block.group(0, 2, read.half(0));
    for (let i = 0; i < 32; i++) block.quants[i] = read.byte(2 + i);
  }),
  IQ4_NL: blockType(32, 18, null, (read, block) => {
    block.group(0, 2, read.half(0));
    nibbles(read, 2, 16, block.quants, 0);
    lookUp(block.quants, 0, nonLinear);
  }),
  MXFP4: blockType(32, 17, null, (read, block) => {
    block.group(0, 2, 2 ** (read.byte(0) - 128)); // E8M0, halved as the values are doubled
    nibbles(read, 1, 16, block.quants, 0);
    lookUp(block.quants, 0, fp4);
  }),
  Q2_K: blockType(256, 84, grid(0, 4), (read, block) => {
    const [d, least] = [read.half(80), read.half(82)];
    for (let g = 0; g < 16; g++) block.group(g, 1, d * (read.byte(g) & 15), -least * (read.byte(g) >> 4));
    pairsOfBits(read, 16, (i, bits) => void (block.quants[i] = bits));
  }),
  Q3_K: blockType(256, 110, grid(-4, 8), (read, block) => {
    const d = read.half(108);
    for (let g = 0; g < 16; g++) {
      const low = (read.byte(96 + (g & 7)) >> (g < 8 ? 0 : 4)) & 15;
      const high = (read.byte(104 + (g & 3)) >> (2 * (g >> 2))) & 3;
      block.group(g, 1, d * ((low | (high << 4)) - 32));
    }
    pairsOfBits(read, 32, (i, bits) => void (block.quants[i] = bits - (((read.byte(i & 31) >> (i >> 5)) & 1) === 1 ? 0 : 4)));
  }),
  Q4_K: blockType(256, 144, grid(0, 16), (read, block) => {
    sixBitScales(read, block);
    for (let j = 0; j < 4; j++) nibbles(read, 16 + 32 * j, 32, block.quants, 64 * j);
  }),
  Q5_K: blockType(256, 176, grid(0, 32), (read, block) => {
    sixBitScales(read, block);
    for (let j = 0; j < 4; j++) nibbles(read, 48 + 32 * j, 32, block.quants, 64 * j);
    for (let i = 0; i < 256; i++) block.quants[i] = block.quants[i]! + (((read.byte(16 + (i & 31)) >> (i >> 5)) & 1) << 4);
  }),
  Q6_K: blockType(256, 210, grid(-32, 64), (read, block) => {
    const d = read.half(208);
    for (let g = 0; g < 16; g++) block.group(g, 1, d * ((read.byte(192 + g) << 24) >> 24));
    for (let j = 0; j < 2; j++) nibbles(read, 64 * j, 64, block.quants, 128 * j, -32);
    pairsOfBits(read, 128, (i, bits) => void (block.quants[i] = block.quants[i]! + (bits << 4)));
  }),
  IQ4_XS: blockType(256, 136, null, (read, block) => {
    const [d, high] = [read.half(0), read.uint16(2)];
    for (let j = 0; j < 8; j++) {
      const low = (read.byte(4 + (j >> 1)) >> (4 * (j & 1))) & 15;
      block.group(2 * j, 2, d * ((low | (((high >> (2 * j)) & 3) << 4)) - 32));
      nibbles(read, 8 + 16 * j, 16, block.quants, 32 * j);
      lookUp(block.quants, 32 * j, nonLinear);
    }
  }),
  IQ2_XXS: blockType(256, 66, null, (read, block) => {
    for (let j = 0; j < 8; j++) {
      const [low, high] = [read.uint16(6 + 8 * j), read.uint16(8 + 8 * j)];
      block.group(2 * j, 2, read.half(0) * (0.5 + (high >> 12)) * 0.25);
      const signs = low + high * 65536;
      for (let k = 0; k < 4; k++) {
        const row = read.byte(2 + 8 * j + k) * 8;
        signed(block.quants, 32 * j + 8 * k, (i) => codebooks.iq2xxs[row + i]!, evenSigns(Math.floor(signs / 2 ** (7 * k)) & 127));
      }
    }
  }),
  IQ2_XS: blockType(256, 74, null, (read, block) => {
    for (let g = 0; g < 16; g++) block.group(g, 1, read.half(0) * (0.5 + ((read.byte(66 + (g >> 1)) >> (4 * (g & 1))) & 15)) * 0.25);
    for (let k = 0; k < 32; k++) {
      const code = read.uint16(2 + 2 * k);
      signed(block.quants, 8 * k, (i) => codebooks.iq2xs[(code & 511) * 8 + i]!, evenSigns(code >> 9));
    }
  }),
  IQ2_S: blockType(256, 82, null, (read, block) => {
    for (let g = 0; g < 16; g++) block.group(g, 1, read.half(0) * (0.5 + ((read.byte(74 + (g >> 1)) >> (4 * (g & 1))) & 15)) * 0.25);
    for (let k = 0; k < 32; k++) {
      const row = read.byte(2 + k) | (((read.byte(66 + (k >> 2)) >> (2 * (k & 3))) & 3) << 8);
      signed(block.quants, 8 * k, (i) => codebooks.iq2s[row * 8 + i]!, read.byte(34 + k));
    }
  }),
  IQ3_XXS: blockType(256, 98, null, (read, block) => {
    for (let j = 0; j < 8; j++) {
      const signs = read.uint16(66 + 4 * j) + read.uint16(68 + 4 * j) * 65536;
      block.group(2 * j, 2, read.half(0) * (0.5 + Math.floor(signs / 2 ** 28)) * 0.5);
      for (let k = 0; k < 4; k++) {
        const row = (i: number): number => codebooks.iq3xxs[read.byte(2 + 8 * j + 2 * k + (i >> 2)) * 4 + (i & 3)]!;
        signed(block.quants, 32 * j + 8 * k, row, evenSigns(Math.floor(signs / 2 ** (7 * k)) & 127));
      }
    }
  }),
  IQ3_S: blockType(256, 110, null, (read, block) => {
    for (let j = 0; j < 8; j++) block.group(2 * j, 2, read.half(0) * (1 + 2 * ((read.byte(106 + (j >> 1)) >> (4 * (j & 1))) & 15)));
    for (let k = 0; k < 32; k++) {
      const code = (n: number): number => read.byte(2 + n) | (((read.byte(66 + (n >> 3)) >> (n & 7)) & 1) << 8);
      signed(block.quants, 8 * k, (i) => codebooks.iq3s[code(2 * k + (i >> 2)) * 4 + (i & 3)]!, read.byte(74 + k));
    }
  }),
  IQ1_S: blockType(256, 50, null, (read, block) => {
    for (let j = 0; j < 8; j++) {
      const high = read.uint16(34 + 2 * j);
      block.group(2 * j, 2, (read.half(0) * (2 * ((high >> 12) & 7) + 1)) / 8);
      for (let k = 0; k < 4; k++) {
        const row = read.byte(2 + 4 * j + k) | (((high >> (3 * k)) & 7) << 8);
        iq1Row(block.quants, 32 * j + 8 * k, row, high >> 15 === 1);
      }
    }
  }),
  IQ1_M: blockType(256, 56, null, (read, block) => {
    const scales = [48, 50, 52, 54].map((offset) => read.uint16(offset));
    const bits = scales.reduce((all, scale, i) => all | ((scale >> 12) << (4 * i)), 0);
    const d = float16Table()[bits]!; // its parts lie in the high bits of four words
    for (let g = 0; g < 16; g++) block.group(g, 1, (d * (2 * ((scales[g >> 2]! >> (3 * (g & 3))) & 7) + 1)) / 8);
    for (let k = 0; k < 32; k++) {
      const high = (read.byte(32 + (k >> 1)) >> (4 * (k & 1))) & 15;
      iq1Row(block.quants, 8 * k, read.byte(k) | ((high & 7) << 8), high >> 3 === 1);
    }
  }),
  TQ1_0: blockType(256, 54, grid(-1, 3), (read, block) => {
    block.group(0, 16, read.half(52));
    for (let i = 0; i < 160; i++) block.quants[i] = trit(read.byte(i & 31), i >> 5);
    for (let i = 0; i < 80; i++) block.quants[160 + i] = trit(read.byte(32 + (i & 15)), i >> 4);
    for (let i = 0; i < 16; i++) block.quants[240 + i] = trit(read.byte(48 + (i & 3)), i >> 2);
  }),
  TQ2_0: blockType(256, 66, grid(-1, 3), (read, block) => {
    block.group(0, 16, read.half(64));
    pairsOfBits(read, 0, (i, bits) => void (block.quants[i] = bits - 1));
  }),
};
