import { expect, test } from 'vitest';
import { ggmlPolicy } from './policy.ts';

test.each([
  [[64, 256], ['Q4_K'], 'ggml.Q4_K'],
  [[64, 128], ['Q4_K'], 'float16'], // rows shorter than a block
  [[64, 256], ['Q4_K', 'Q6_K'], 'rows:ggml.Q4_K*32,ggml.Q6_K*32'],
  [[64, 256], ['BF16'], 'bfloat16'],
  [[64, 256], ['BF16', 'F16'], 'rows:bfloat16*32,float16*32'],
  [[64, 256], ['Q4_K', 'GRID8'], 'rows:ggml.Q4_K*32,float16*32'],
  [[64, 256], ['F32'], 'float32'],
  [[64, 256], ['GRID8'], 'float16'],
  [[256], ['F16'], 'float32'],
  [[8, 64, 32], ['MXFP4'], 'ggml.MXFP4'],
] as const)('a parameter %o of %o is kept as %s', (shape, sources, format) => {
  const stack = sources.map((dtype) => ({ dtype, rows: shape[0] / sources.length }));
  expect(ggmlPolicy({ name: 'model.layers.0.mlp.gate_up_proj.weight', shape, sources, stack })).toBe(format);
});

test('a router is float32', () => {
  expect(ggmlPolicy({ name: 'model.layers.0.mlp.router.weight', shape: [8, 64], sources: ['BF16'], stack: null })).toBe('float32');
});
