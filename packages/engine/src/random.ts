import { randomInt } from 'node:crypto';

/**
 * Random numbers that are the same on every machine: xoshiro128** 1.1 (Blackman and Vigna, 2018), its state filled by SplitMix64 from one seed.
 */
export class Random {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  /** @param seed Any integer; of a negative one its two's complement in 64 bits counts. */
  constructor(seed: number) {
    const fill = splitMix64(BigInt(seed));
    const first = fill();
    const second = fill();
    [this.a, this.b] = halves(first);
    [this.c, this.d] = halves(second);
  }

  /** The generator at a given state, of four unsigned 32-bit integers that are not all 0. */
  static fromState([a, b, c, d]: readonly [number, number, number, number]): Random {
    const random = new Random(0);
    random.a = a;
    random.b = b;
    random.c = c;
    random.d = d;
    return random;
  }

  /** An integer in [0, 2^32). */
  nextUint32(): number {
    const result = Math.imul(rotateLeft(Math.imul(this.b, 5), 7), 9) >>> 0;
    const shifted = this.b << 9;
    this.c ^= this.a;
    this.d ^= this.b;
    this.b ^= this.c;
    this.a ^= this.d;
    this.c ^= shifted;
    this.d = rotateLeft(this.d, 11);
    return result;
  }

  /** A number in [0, 1), a multiple of 2^-53. */
  next(): number {
    const high = this.nextUint32() >>> 5;
    const low = this.nextUint32() >>> 6;
    return (high * 0x4000000 + low) / 0x20000000000000;
  }
}

/** A seed that no one can guess, in [0, 2^48). */
export function randomSeed(): number {
  return randomInt(0, 2 ** 48 - 1);
}

/** SplitMix64 (Steele, Lea and Flood, 2014): spreads one seed over as many 64-bit integers as are asked for. */
export function splitMix64(seed: bigint): () => bigint {
  let state = BigInt.asUintN(64, seed);
  return () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let mixed = state;
    mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 30n)) * 0xbf58476d1ce4e5b9n);
    mixed = BigInt.asUintN(64, (mixed ^ (mixed >> 27n)) * 0x94d049bb133111ebn);
    return mixed ^ (mixed >> 31n);
  };
}

function halves(value: bigint): [number, number] {
  return [Number(BigInt.asIntN(32, value)), Number(BigInt.asIntN(32, value >> 32n))];
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
