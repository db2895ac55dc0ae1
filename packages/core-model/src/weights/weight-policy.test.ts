import { expect, test } from 'vitest';
import { faithfulPolicy, float32Policy } from './weight-policy.ts';

test.each([
  ['model.layers.0.self_attn.o_proj.weight', [64, 64], ['Q4_0'], 'int4b32'],
  ['model.layers.0.self_attn.o_proj.weight', [64, 64], ['Q4_1'], 'int4b32o'],
  ['model.embed_tokens.weight', [64, 64], ['Q8_0'], 'int8b32'],
  ['model.layers.0.self_attn.qkv_proj.weight', [64, 64], ['Q4_0', 'Q4_1'], 'int4b32o'],
  ['model.layers.0.self_attn.qkv_proj.weight', [64, 64], ['Q4_0', 'F16'], 'int8b32'],
  ['model.layers.0.self_attn.o_proj.weight', [64, 64], ['BF16'], 'float32'],
  ['model.layers.0.self_attn.o_proj.weight', [64, 48], ['Q8_0'], 'float32'],
  ['model.norm.weight', [64], ['Q8_0'], 'float32'],
  ['model.layers.0.feed_forward.router.weight', [4, 64], ['Q8_0'], 'float32'],
] as const)('%s %j of %j is kept as %4$s', (name, shape, sources, format) => {
  expect(faithfulPolicy({ name, shape, sources, stack: null })).toBe(format);
  expect(float32Policy({ name, shape, sources, stack: null })).toBe('float32');
});
