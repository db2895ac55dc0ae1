import { memoryStorage, ops } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import { expectClose, runModule } from '../run-module.fixture.ts';
import { Attention, ChunkedLocalAttention } from './attention.ts';
import { FusedMoe } from './fused-moe.ts';
import { Linear } from './linear.ts';
import { GemmaRmsNorm, HeadRmsNorm, RmsNorm } from './norm.ts';

const shapesOf = (module: { namedParameters(): Iterable<[string, { shape: readonly number[] }]> }) =>
  Object.fromEntries([...module.namedParameters()].map(([name, { shape }]) => [name, shape]));

test('a linear layer has its weight as [out, in], and a bias where one is asked for', () => {
  expect(shapesOf(new Linear(3, 5))).toEqual({ weight: [5, 3] });
  expect(shapesOf(new Linear(3, 5, { bias: true }))).toEqual({ weight: [5, 3], bias: [5] });
});

test('experts hold gate and up in one weight', () => {
  const weights = { w13_weight: [4, 12, 8], w2_weight: [4, 8, 6] };
  expect(shapesOf(new FusedMoe(4, 2, 8, 6))).toEqual(weights);
  expect(shapesOf(new FusedMoe(4, 2, 8, 6, { bias: true }))).toEqual({ ...weights, w13_bias: [4, 12], w2_bias: [4, 8] });
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

test('experts have the routing, activation and biases that they are built with', async () => {
  const experts = new FusedMoe(2, 1, 1, 1, { routing: 'softmax', activation: { kind: 'swigluOai', alpha: 1, limit: 2 }, bias: true });
  const values = { w13_weight: [0, 0, 4, 4], w2_weight: [0, 3], w13_bias: [0, 0, 0, 1], w2_bias: [0, 5] };
  for (const [name, parameter] of experts.namedParameters())
    parameter.setStorage(memoryStorage('float32', parameter.shape, { data: Float32Array.from(values[name as keyof typeof values]) }));
  const given = { x: { dims: [1, 1, 1], data: Float32Array.of(1) }, logits: { dims: [1, 1, 2], data: Float32Array.of(0, Math.log(3)) } };
  const { y } = await runModule(experts, given, (module, { x, logits }) => ({ y: module.forward(x, logits) }));
  const swish = 2 / (1 + Math.exp(-2));
  expectClose(y!.values, [0.75 * (3 * swish * 3 + 5)]);
});

test('a Gemma norm multiplies by one plus the weight', async () => {
  const norm = new GemmaRmsNorm(2, 1e-12);
  norm.weight.setStorage(memoryStorage('float32', [2], { data: Float32Array.of(0, 1) }));
  const x = { dims: [1, 1, 2], data: Float32Array.of(3, 4) };
  const { y, sum } = await runModule(norm, { x }, (module, { x }) => ({ y: module.forward(x), sum: module.forwardWithResidual(x, x)[0] }));
  const root = Math.sqrt((9 + 16) / 2);
  for (const given of [y, sum]) expectClose(given!.values, [3 / root, 8 / root]);
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
  test('is the whole sequence for full attention, one chunk for chunked-local, and the window where there is one', () => {
    expect(new Attention(options).getKvCacheSpec()).toEqual({ kind: 'full', numKvHeads: 2, headDim: 8 });
    const window = { kind: 'sliding-window', numKvHeads: 2, headDim: 8, windowSize: 5 };
    expect(new Attention({ ...options, window: 5 }).getKvCacheSpec()).toEqual(window);
    const spec = { kind: 'chunked-local', numKvHeads: 2, headDim: 8, chunkSize: 16 };
    expect(new ChunkedLocalAttention(16, options).getKvCacheSpec()).toEqual(spec);
  });
});
