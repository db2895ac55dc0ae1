import { memoryStorage, ops } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import { expectClose, runModule } from '../run-module.fixture.ts';
import { Attention, ChunkedLocalAttention } from './attention.ts';
import { FusedMoe } from './fused-moe.ts';
import { Linear } from './linear.ts';
import { HeadRmsNorm, RmsNorm } from './norm.ts';

const shapesOf = (module: { namedParameters(): Iterable<[string, { shape: readonly number[] }]> }) =>
  Object.fromEntries([...module.namedParameters()].map(([name, { shape }]) => [name, shape]));

test('a linear layer has its weight as [out, in], and a bias where one is asked for', () => {
  expect(shapesOf(new Linear(3, 5))).toEqual({ weight: [5, 3] });
  expect(shapesOf(new Linear(3, 5, { bias: true }))).toEqual({ weight: [5, 3], bias: [5] });
});

test('experts hold gate and up in one weight', () => {
  expect(shapesOf(new FusedMoe(4, 2, 8, 6))).toEqual({ w13_weight: [4, 12, 8], w2_weight: [4, 8, 6] });
});

test('each head is normed on its own, without a weight', async () => {
  const norm = new HeadRmsNorm(2, 1e-12);
  expect(shapesOf(norm)).toEqual({});
  const x = { dims: [1, 1, 4], data: Float32Array.of(3, 4, 0, -2) };
  const { y } = await runModule(norm, { x }, (module, { x }) => ({ y: module.forward(x) }));
  expect(y!.dims).toEqual([1, 1, 4]);
  const root = Math.sqrt((9 + 16) / 2);
  expectClose(y!.values, [3 / root, 4 / root, 0, -Math.SQRT2]);
});

test('a norm with a residual adds first, and gives the sum as the new residual', async () => {
  const norm = new RmsNorm(2, 1e-12);
  norm.weight.setStorage(memoryStorage('float32', [2], { data: Float32Array.of(1, 10) }));
  const x = { dims: [1, 1, 2], data: Float32Array.of(1, 5) };
  const residual = { dims: [1, 1, 2], data: Float32Array.of(2, -1) };
  const { y, sum } = await runModule(norm, { x, residual }, (module, tensors) => {
    const [y, sum] = module.forwardWithResidual(tensors.x, tensors.residual);
    return { y, sum: ops.addScalar({ x: sum }, { value: 0 }) };
  });
  const root = Math.sqrt((9 + 16) / 2);
  expectClose(sum!.values, [3, 4]);
  expectClose(y!.values, [3 / root, 40 / root], 1e-5);
});

describe('the KV cache that a layer needs', () => {
  const options = { numHeads: 4, numKvHeads: 2, headDim: 8, scale: 1 };
  test('is the whole sequence for full attention, and one chunk for chunked-local', () => {
    expect(new Attention(options).getKvCacheSpec()).toEqual({ kind: 'full', numKvHeads: 2, headDim: 8 });
    const spec = { kind: 'chunked-local', numKvHeads: 2, headDim: 8, chunkSize: 16 };
    expect(new ChunkedLocalAttention(16, options).getKvCacheSpec()).toEqual(spec);
  });
});
