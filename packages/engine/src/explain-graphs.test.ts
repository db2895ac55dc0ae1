import { join } from 'node:path';
import { expect, test } from 'vitest';
import { caseFolder, failureOf, root } from './engine.fixture.ts';
import { explainGraphs } from './explain-graphs.ts';

const asked = {
  app: root,
  plugins: [join(root, 'packages/engine/src/interpreter-plugin.fixture.ts')],
  platform: 'interpreter',
  model: caseFolder('maverick-tiny'),
};

test('the graphs of a model are counted from its config for each bucket, with the reason for each further graph', async () => {
  const { text, record } = await explainGraphs({
    ...asked,
    buckets: [
      { batch: 1, sequence: 8 },
      { batch: 4, sequence: 1 },
    ],
  });
  // Upstream's four kinds of Maverick layer at each.
  expect(record.forecast).toMatchObject({ graphs: 8, regions: [{ region: 'decoder-layer', graphs: 8 }] });
  expect(record.forecast.buckets.map(({ bucket, regions }) => [bucket, regions[0]!.graphs])).toEqual([
    ['1x8', 4],
    ['4x1', 4],
  ]);
  expect(record.why).toBeNull();
  expect(text).toContain('8 graphs to capture: Llama4ForCausalLM as Llama4ForCausalLM (platform "interpreter", mode "regional")');
  expect(text).toContain('model.layers.1 needs another:\n      residual is float32[1, 8, 32], and null in decoder-layer#0');
});

test('the kinds of layers are listed with their layers and their differences from the most similar kind', async () => {
  const { text, record } = await explainGraphs(asked);
  // Upstream's four: the first, RoPE and MoE, RoPE and dense, NoPE and MoE.
  expect(record.kinds.map(({ graph, paths }) => [graph, paths.map((path) => path.replace('model.layers.', ''))])).toEqual([
    ['decoder-layer#0', ['0']],
    ['decoder-layer#1', ['1', '5']],
    ['decoder-layer#2', ['2', '4', '6']],
    ['decoder-layer#3', ['3', '7']],
  ]);
  expect(record.kinds.map(({ unlike }) => unlike?.graph)).toEqual([
    undefined,
    ...['#0', '#0', '#1'].map((graph) => `decoder-layer${graph}`),
  ]);
  expect(record.kinds[3]!.unlike!.differences).toContainEqual({
    kind: 'class',
    path: 'self_attn.rotary_emb',
    expected: 'RotaryEmbedding',
    actual: 'null',
  });
  expect(text).toContain(
    [
      '  decoder-layer#1 serves model.layers.1, 5; unlike decoder-layer#0:',
      '    residual is float32[batch, sequence, 32], not null',
      '    feed_forward is Llama4Moe, not LlamaMlp',
      '  decoder-layer#2 serves model.layers.2, 4, 6; unlike decoder-layer#0:',
    ].join('\n'),
  );
});

test('layers at equal distances are listed by their first two and their last', async () => {
  const { text } = await explainGraphs({ ...asked, model: join(root, 'docs/maverick') });
  expect(text.match(/serves .+?(?=;|$)/gm)).toEqual([
    'serves model.layers.0',
    'serves model.layers.1, 5, ..., 45',
    'serves model.layers.2, 4, ..., 46',
    'serves model.layers.3, 7, ..., 47',
  ]);
});

test('without buckets the capture is for any shape, and two layers are compared by their numbers', async () => {
  const { text, record } = await explainGraphs({ ...asked, why: [1, 3] });
  expect(record.forecast).toMatchObject({ graphs: 4, buckets: [{ bucket: 'any shape' }] });
  expect(record.why).toMatchObject({ a: 'model.layers.1', b: 'model.layers.3' });
  expect(text).toContain('  self_attn.rotary_emb: RotaryEmbedding, null');
  expect((await explainGraphs({ ...asked, why: [1, 5] })).text).toContain('model.layers.1 and model.layers.5 share a graph');
});

test('an unknown layer is named', async () => {
  const error = await failureOf(explainGraphs({ ...asked, why: [1, 8] }));
  expect(error).toMatchObject({ code: 'GRAFT_ENGINE_CONFIG', what: 'The model has no layer 8; it has 8, counted from 0.' });
});
