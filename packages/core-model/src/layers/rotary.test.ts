import type { Tensor } from '@graft/graph';
import { expect, test } from 'vitest';
import { expectClose, runModule } from '../run-module.fixture.ts';
import { inverseFrequencies, RotaryEmbedding } from './rotary.ts';

// theta 10000 and a head of 8: 10000 ** (-2i / 8) for i = 0, 1, 2, 3.
const plain = [1, 0.1, 0.01, 0.001];

test('plain frequencies are powers of theta', () => {
  expectClose([...inverseFrequencies(8, { type: 'default', theta: 10000 })], plain, 1e-8);
});

test('linear scaling divides all of them', () => {
  expectClose(
    [...inverseFrequencies(8, { type: 'linear', theta: 10000, factor: 4 })],
    plain.map((f) => f / 4),
    1e-8,
  );
});

test('llama3 keeps short wavelengths, stretches long ones by the factor and mixes those between', () => {
  const rope = {
    type: 'llama3',
    theta: 10000,
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositionEmbeddings: 64,
  } as const;
  // Wavelengths 2 pi / f: 6.28, 62.8, 628, 6283. Below 64 / 4 = 16: kept. Above 64 / 1: divided by 8.
  // Between: s = (64 / 62.831853 - 1) / (4 - 1) = 0.006197212, and (1 - s) * 0.1 / 8 + s * 0.1 = 0.013042256.
  expectClose([...inverseFrequencies(8, rope)], [1, 0.013042256, 0.00125, 0.000125], 2e-9);
});

test('tables have a row for each position that is served, and are not in the checkpoint', () => {
  const rotary = new RotaryEmbedding(8, 5, { type: 'default', theta: 10000 }, { interleaved: true });
  expect(rotary.cosCache.shape).toEqual([5, 4]);
  expect([...rotary.namedParameters()].map(([name]) => name)).toEqual([]);
  const angles = [0, 1, 2, 3, 4].flatMap((position) => plain.map((f) => position * f));
  expectClose([...rotary.cosCache.toFloat32()], angles.map(Math.cos));
  expectClose([...rotary.sinCache.toFloat32()], angles.map(Math.sin));
});

test('neighbours are a pair, rotated by position times frequency; position 0 changes nothing; keys may have fewer heads', async () => {
  const rotary = new RotaryEmbedding(4, 8, { type: 'default', theta: 10000 }, { interleaved: true }); // frequencies 1 and 0.01
  const query = { dims: [1, 2, 8], data: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 1, 0, 1, 0, 0, 1, 0, 1) };
  const key = { dims: [1, 2, 4], data: Float32Array.of(9, 8, 7, 6, 1, 0, 0, 1) };
  const positions = { dims: [1, 2], data: BigInt64Array.of(0n, 3n) };
  const { q, k } = await runModule(rotary, { positions, query, key }, (module, tensors) => {
    const [q, k] = module.forward(tensors.positions, tensors.query, tensors.key);
    return { q, k };
  });
  const [c, s, slowC, slowS] = [Math.cos(3), Math.sin(3), Math.cos(0.03), Math.sin(0.03)];
  expectClose(q!.values, [1, 2, 3, 4, 5, 6, 7, 8, c, s, slowC, slowS, -s, c, -slowS, slowC]);
  expectClose(k!.values, [9, 8, 7, 6, c, s, -slowS, slowC]);
});

// dim 8, theta 10000, original length 64: pair of r turns = 8 ln(64 / (2 pi r)) / (2 ln 10000). For 32 turns -0.497, for 1 turn 1.008.
const yarn = { type: 'yarn', theta: 10000, factor: 4, originalMaxPositionEmbeddings: 64, betaFast: 32, betaSlow: 1 } as const;

test('yarn keeps pairs that turn often, stretches those that turn little, and rounds the range between where asked to', () => {
  const exact = inverseFrequencies(8, { ...yarn, truncate: false, attentionFactor: 1 });
  const high = (8 * Math.log(64 / (2 * Math.PI))) / (2 * Math.log(10000));
  const mixed = (part: number, frequency: number): number => (part * frequency) / 4 + (1 - part) * frequency;
  expectClose([...exact], [1, mixed(1 / high, 0.1), 0.0025, 0.00025], 1e-8);
  // Rounded, the range is 0 to 2.
  expectClose([...inverseFrequencies(8, { ...yarn, truncate: true, attentionFactor: 1 })], [1, mixed(0.5, 0.1), 0.0025, 0.00025], 1e-8);
});

test("yarn's attention factor multiplies the rotated elements", () => {
  const rotary = new RotaryEmbedding(8, 2, { ...yarn, truncate: true, attentionFactor: 1.5 });
  expectClose([...rotary.cosCache.toFloat32().subarray(0, 4)], [1.5, 1.5, 1.5, 1.5]);
});

test("a GGUF's factors divide the frequencies", () => {
  expectClose([...inverseFrequencies(8, { type: 'factors', theta: 10000, factors: [1, 2, 4, 8] })], [1, 0.05, 0.0025, 0.000125], 1e-8);
});

test('a part of a head is rotated as a head of that width', async () => {
  const rope = { type: 'default', theta: 10000, partialRotaryFactor: 0.75 } as const;
  const [whole, part] = [new RotaryEmbedding(6, 4, { type: 'default', theta: 10000 }), new RotaryEmbedding(8, 4, rope)];
  expect(part.rotaryDim).toBe(6);
  expect(part.cosCache.toFloat32()).toEqual(whole.cosCache.toFloat32());
  const x = { dims: [1, 1, 8], data: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8) };
  const positions = { dims: [1, 1], data: BigInt64Array.of(3n) };
  const call = (module: RotaryEmbedding, { positions, x }: { positions: Tensor; x: Tensor }) => ({ y: module.forward(positions, x, x)[0] });
  const { y } = await runModule(part, { positions, x }, call);
  const { y: six } = await runModule(whole, { positions, x: { dims: [1, 1, 6], data: x.data.slice(0, 6) } }, call);
  expectClose(y!.values, [...six!.values, 7, 8]);
});

test('longrope takes its long factors where more than the original length is served', () => {
  const factors = { shortFactor: [1, 2], longFactor: [4, 8] };
  const rope = { type: 'longrope', theta: 10000, ...factors, originalMaxPositionEmbeddings: 4, attentionFactor: 1.5 } as const;
  const sines = (maxPositions: number) => [...new RotaryEmbedding(4, maxPositions, rope).sinCache.toFloat32().subarray(6, 8)]; // of position 3
  const turned = ([a, b]: readonly number[]) => [1.5 * Math.sin(3 / a!), 1.5 * Math.sin(0.03 / b!)];
  expectClose(sines(4), turned(factors.shortFactor));
  expectClose(sines(5), turned(factors.longFactor));
});
