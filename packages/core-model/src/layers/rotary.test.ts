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
