import { randomInt } from 'node:crypto';

/**
 * Random numbers, the same on every machine: xoshiro128** 1.1 (Blackman and Vigna, 2018), its state filled from one seed by SplitMix64.
 */
export class Random {
  private a: number;
  private b: number;
  private c: number;
  private d: number;

  /** @param seed any integer (a negative one counts as its two's complement in 64 bits), or the four words of the state, not all 0. */
  constructor(seed: number | readonly [number, number, number, number]) {
    [this.a, this.b, this.c, this.d] = typeof seed === 'number' ? stateOf(seed) : seed;
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

/** SplitMix64 (Steele, Lea and Flood, 2014): 64-bit integers from one seed. */
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

function stateOf(seed: number): [number, number, number, number] {
  const fill = splitMix64(BigInt(seed));
  const [first, second] = [fill(), fill()];
  const [a, b, c, d] = [first, first >> 32n, second, second >> 32n].map((half) => Number(BigInt.asIntN(32, half)));
  return [a!, b!, c!, d!];
}

function rotateLeft(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}
