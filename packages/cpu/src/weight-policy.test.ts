import { expect, test } from 'vitest';
import { cpuWeightPolicy } from './weight-policy.ts';

const form = (name: string, shape: number[], ...sources: string[]) => cpuWeightPolicy({ name, shape, sources });

test('a quantised checkpoint keeps its own grid', () => {
  expect(form('model.layers.0.feed_forward.down_proj.weight', [576, 1536], 'Q4_1')).toBe('int8b32');
  expect(form('model.layers.0.feed_forward.down_proj.weight', [576, 1536], 'Q4_0')).toBe('int4b32');
  expect(form('model.layers.0.feed_forward.down_proj.weight', [576, 1536], 'BF16')).toBe('float32');
});

test('queries, keys and values of a small model are exact; those of a larger one are not worth the memory', () => {
  expect(form('model.layers.0.self_attn.qkv_proj.weight', [960, 576], 'Q4_1')).toBe('float32');
  expect(form('model.layers.0.self_attn.qkv_proj.weight', [6144, 4096], 'Q4_1')).toBe('int8b32');
  expect(form('model.layers.0.self_attn.o_proj.weight', [576, 576], 'Q4_1')).toBe('int8b32');
});
