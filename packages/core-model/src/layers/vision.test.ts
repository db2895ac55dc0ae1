import { memoryStorage, type Parameter } from '@graft/graph';
import { expect, test } from 'vitest';
import { upstreamContext } from '../context.ts';
import { llama4 } from '../families/llama4.ts';
import type { Llama4VisionConfig } from '../families/llama4-config.ts';
import { expectClose, runModule } from '../run-module.fixture.ts';
import { LayerNorm } from './norm.ts';
import { Llama4VisionMlp, Llama4VisionModel, pixelShuffle, UnfoldConvolution, VisionRotaryEmbedding } from './vision.ts';

/** A tile of 4 x 4 pixels and 2 x 2 patches. */
const config: Llama4VisionConfig = {
  hiddenSize: 4,
  intermediateSize: 16,
  numHiddenLayers: 2,
  numAttentionHeads: 1,
  headDim: 4,
  numChannels: 3,
  imageSize: 4,
  patchSize: 2,
  patchesPerSide: 2,
  shuffleFactor: 2,
  tokensPerTile: 1,
  outputSize: 5,
  ropeTheta: 10000,
  imageTokenIndex: 7,
};

const context = upstreamContext('any', llama4.parseConfig(llama4.small()['Llama4ForCausalLM']));

const fill = (parameter: Parameter, values: Iterable<number>): void =>
  parameter.setStorage(memoryStorage('float32', parameter.shape, { data: Float32Array.from(values) }));

const counted = (dims: number[]) => ({ dims, data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, (_, i) => i) });

test("a patch's pixels stand channel by channel, row by row, and patches row by row", async () => {
  const unfold = new UnfoldConvolution(context, { ...config, hiddenSize: 12 });
  fill(
    unfold.linear.weight,
    Array.from({ length: 144 }, (_, i) => (i % 13 === 0 ? 1 : 0)), // the identity
  );
  const { y } = await runModule(unfold, { x: counted([1, 3, 4, 4]) }, (module, { x }) => ({ y: module.forward(x) }));
  expect(y!.dims).toEqual([1, 4, 12]);
  const patch = (corner: number): number[] => [0, 16, 32].flatMap((channel) => [0, 1, 4, 5].map((pixel) => channel + corner + pixel));
  expect(y!.values).toEqual([0, 2, 8, 10].flatMap(patch));
});

test('the pixel shuffle joins squares of patches, row by row', async () => {
  // 4 x 4 patches of width 1: patch p has the value p.
  const { y } = await runModule(new LayerNorm(1), { x: counted([1, 16, 1]) }, (_, { x }) => ({ y: pixelShuffle(x, 4, 2) }));
  expect(y!.dims).toEqual([1, 4, 4]);
  expect(y!.values).toEqual(
    [
      [0, 1, 4, 5],
      [2, 3, 6, 7],
      [8, 9, 12, 13],
      [10, 11, 14, 15],
    ].flat(),
  );
});

test('the first pairs of a head turn by the column, the others by the row, both from 1, and the class token not at all', async () => {
  const rotary = new VisionRotaryEmbedding(config);
  // One frequency, 1: the pair (1, 0) becomes (cos a, sin a).
  const x = { dims: [1, 5, 4], data: Float32Array.from({ length: 20 }, (_, i) => (i + 1) % 2) };
  const { y, places } = await runModule(rotary, { x }, (module, { x }) => {
    const places = module.placesOf(x);
    return { y: module.forward(places, x), places };
  });
  expect(places!.values.map(Number)).toEqual([0, 1, 2, 3, 4]);
  const turned = (column: number, row: number) => [Math.cos(column), Math.sin(column), Math.cos(row), Math.sin(row)];
  expectClose(y!.values, [turned(1, 1), turned(2, 1), turned(1, 2), turned(2, 2), turned(0, 0)].flat());
});

test('an MLP has a GELU inside, and after it where it is the adapter', async () => {
  const gelu1 = 0.8413447;
  for (const outputActivation of [false, true]) {
    const mlp = new Llama4VisionMlp(context, [1, 1, 1], { bias: false, outputActivation });
    fill(mlp.fc1.weight, [1]);
    fill(mlp.fc2.weight, [1 / gelu1]);
    const { y } = await runModule(mlp, { x: { dims: [1, 1], data: Float32Array.of(1) } }, (module, { x }) => ({ y: module.forward(x) }));
    expectClose(y!.values, [outputActivation ? gelu1 : 1], 1e-6);
  }
});

test("the tower's parameters have vLLM's names", () => {
  const shapes = Object.fromEntries(
    [...new Llama4VisionModel(context, config).namedParameters()].map(([name, { shape }]) => [name, shape]),
  );
  const layer = (i: number) => ({
    [`model.layers.${i}.self_attn.qkv_proj.weight`]: [12, 4],
    [`model.layers.${i}.self_attn.qkv_proj.bias`]: [12],
    [`model.layers.${i}.self_attn.o_proj.weight`]: [4, 4],
    [`model.layers.${i}.self_attn.o_proj.bias`]: [4],
    [`model.layers.${i}.mlp.fc1.weight`]: [16, 4],
    [`model.layers.${i}.mlp.fc1.bias`]: [16],
    [`model.layers.${i}.mlp.fc2.weight`]: [4, 16],
    [`model.layers.${i}.mlp.fc2.bias`]: [4],
    [`model.layers.${i}.input_layernorm.weight`]: [4],
    [`model.layers.${i}.input_layernorm.bias`]: [4],
    [`model.layers.${i}.post_attention_layernorm.weight`]: [4],
    [`model.layers.${i}.post_attention_layernorm.bias`]: [4],
  });
  expect(shapes).toEqual({
    class_embedding: [4],
    positional_embedding_vlm: [5, 4],
    'patch_embedding.linear.weight': [4, 12],
    'layernorm_pre.weight': [4],
    'layernorm_pre.bias': [4],
    'layernorm_post.weight': [4],
    'layernorm_post.bias': [4],
    ...layer(0),
    ...layer(1),
    'vision_adapter.mlp.fc1.weight': [5, 16],
    'vision_adapter.mlp.fc2.weight': [5, 5],
  });
});
