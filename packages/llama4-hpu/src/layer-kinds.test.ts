import { Llama4ForCausalLM } from '@graft/core-model';
import { describe, expect, test } from 'vitest';
import { architectures, buildPatched, contextOf } from './layer-graphs.fixture.ts';
import { hasHeterogeneousLayers, layerKinds } from './layer-kinds.ts';

const ofMaverick = ['LlamaMlp over chunked-local-8192', 'Llama4Moe over chunked-local-8192', 'Llama4Moe over full'];

describe.each(architectures)('on %s', (architecture) => {
  test.each(['compile', 'lazy'])('layers keep their kinds in mode %s, whatever class their parts have then', async (mode) => {
    const { model } = await buildPatched(architecture, { ...contextOf('Maverick', { num_hidden_layers: 8 }), mode });
    expect(layerKinds(model)).toEqual(ofMaverick);
    expect(hasHeterogeneousLayers(model)).toBe(true);
  });
});

test('layers that differ in their KV cache alone are heterogeneous, and those of one kind are not', () => {
  const kinds = (more: Record<string, unknown>) => layerKinds(new Llama4ForCausalLM(contextOf('Scout', { num_hidden_layers: 4, ...more })));
  expect(kinds({})).toEqual(['Llama4Moe over chunked-local-8192', 'Llama4Moe over full']);
  expect(kinds({ no_rope_layers: [1, 1, 1, 1] })).toEqual(['Llama4Moe over chunked-local-8192']);
  expect(hasHeterogeneousLayers(new Llama4ForCausalLM(contextOf('Scout', { num_hidden_layers: 4 })))).toBe(true);
  expect(hasHeterogeneousLayers(new Llama4ForCausalLM(contextOf('Scout', { num_hidden_layers: 2, no_rope_layers: [1, 1] })))).toBe(false);
});
