import { expect, test } from 'vitest';
import { Random, randomSeed, splitMix64 } from './random.ts';

const take = (count: number, next: () => number | bigint) => Array.from({ length: count }, next);

// Expected: the authors' C code, compiled with gcc (xoshiro128starstar.c 1.1 with state 1, 2, 3, 4; splitmix64.c with seed 1234567).
test('gives the numbers of the published generators', () => {
  const random = new Random([1, 2, 3, 4]);
  expect(take(8, () => random.nextUint32())).toEqual([11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849]);
  expect(take(3, splitMix64(1234567n))).toEqual([6457827717110365317n, 3203168211198807973n, 9817491932198370423n]);
});

test('a seed fills the state by SplitMix64', () => {
  const random = new Random(42);
  expect(take(4, () => random.nextUint32())).toEqual([1776835114, 4165204688, 17111135, 2317295270]);
});

test('numbers lie in [0, 1), evenly', () => {
  const random = new Random(7);
  const buckets = new Array<number>(16).fill(0);
  for (let i = 0; i < 16_000; i++) {
    const number = random.next();
    if (!(number >= 0 && number < 1)) expect.fail(`${number} lies outside [0, 1)`);
    buckets[Math.floor(number * 16)]!++;
  }
  // Chi-square with 15 degrees of freedom is under 37.7 in 999 of 1000 cases.
  expect(buckets.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0)).toBeLessThan(37.7);
});

test('every integer is a different seed', () => {
  const seeds = [0, 1, -1, 2 ** 32, Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER];
  expect(seeds.map((seed) => new Random(seed).next())).toEqual(seeds.map((seed) => new Random(seed).next()));
  expect(new Set(seeds.map((seed) => new Random(seed).next())).size).toBe(seeds.length);
});

test('random seeds differ', () => {
  expect(new Set(take(20, randomSeed)).size).toBe(20);
});
