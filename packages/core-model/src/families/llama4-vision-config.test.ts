import { describe, expect, test } from 'vitest';
import { ConfigContradictionError, ConfigInvalidError } from '../errors.ts';
import { llama4 } from './llama4.ts';
import type { Llama4VisionConfig } from './llama4-config.ts';

const { Llama4ForCausalLM: text } = llama4.small();
const parseVision = (raw: Record<string, unknown>, where = 'model/config.json') =>
  llama4.parseConfig({ ...text, ...raw }, { where }).vision;

// As Llama 4 Scout's and Maverick's config.json have it.
const vision = {
  hidden_act: 'gelu',
  hidden_size: 1408,
  image_size: 336,
  intermediate_size: 5632,
  model_type: 'llama4_vision_model',
  multi_modal_projector_bias: false,
  norm_eps: 1e-5,
  num_attention_heads: 16,
  num_channels: 3,
  num_hidden_layers: 34,
  patch_size: 14,
  pixel_shuffle_ratio: 0.5,
  projector_input_dim: 4096,
  projector_output_dim: 4096,
  rope_theta: 10000,
  vision_output_dim: 4096,
};

const parse = (more: Record<string, unknown> = {}, outer: Record<string, unknown> = {}): Llama4VisionConfig | null =>
  parseVision({ vision_config: { ...vision, ...more }, image_token_index: 200092, ...outer });

test("the published checkpoints' tower: 24 x 24 patches of a tile become 144 tokens", () => {
  expect(parse()).toEqual({
    hiddenSize: 1408,
    intermediateSize: 5632,
    numHiddenLayers: 34,
    numAttentionHeads: 16,
    headDim: 88,
    numChannels: 3,
    imageSize: 336,
    patchSize: 14,
    patchesPerSide: 24,
    shuffleFactor: 2,
    tokensPerTile: 144,
    outputSize: 4096,
    ropeTheta: 10000,
    imageTokenIndex: 200092,
  });
});

test('a config without vision_config, or with null, is for text alone', () => {
  expect(parseVision({ hidden_size: 8 })).toBeNull();
  expect(parseVision({ vision_config: null })).toBeNull();
});

test('theta is read from rope_parameters too, and 10000 where it is nowhere; the image token under both of its names', () => {
  const { rope_theta: _, ...without } = vision;
  const newer = { ...without, rope_parameters: { rope_type: 'default', rope_theta: 500 } };
  expect(parseVision({ vision_config: newer, image_token_index: 7 })?.ropeTheta).toBe(500);
  expect(parseVision({ vision_config: without, image_token_id: 7 })).toMatchObject({ ropeTheta: 10000, imageTokenIndex: 7 });
});

describe('what cannot be computed is refused with the key that says it', () => {
  test.each<[Record<string, unknown>, string]>([
    [{ hidden_size: 'wide' }, 'vision_config.hidden_size'],
    [{ num_hidden_layers: 0 }, 'vision_config.num_hidden_layers'],
    [{ num_channels: 4 }, 'vision_config.num_channels'],
    [{ hidden_act: 'relu' }, 'vision_config.hidden_act'],
    [{ multi_modal_projector_bias: true }, 'vision_config.multi_modal_projector_bias'],
    [{ rope_parameters: { rope_type: 'llama3' } }, 'vision_config.rope_parameters.rope_type'],
    [{ pixel_shuffle_ratio: 2 }, 'vision_config.pixel_shuffle_ratio'],
  ])('%o', (more, key) => {
    expect(() => parse(more)).toThrow(ConfigInvalidError);
    expect(() => parse(more)).toThrow(expect.objectContaining({ where: `model/config.json, key "${key}"` }));
  });

  test.each<[Record<string, unknown>, string]>([
    [{ num_attention_heads: 24 }, 'rotation by row and column'],
    [{ image_size: 337 }, 'image_size 337 is not a multiple of patch_size 14'],
    [{ pixel_shuffle_ratio: 0.3 }, 'pixel_shuffle_ratio 0.3 does not divide'],
    [{ image_size: 350 }, "does not divide a tile's 25 x 25 patches"],
    [{ intermediate_size: 5600 }, 'intermediate_size is 5600, but the pixel shuffle gives 5632'],
    [{ projector_input_dim: 4000 }, 'projector_input_dim is 4000, but projector_output_dim is 4096'],
    [{ vision_output_dim: 4000 }, 'vision_output_dim is 4000'],
    [{ rope_parameters: { rope_theta: 5 } }, 'rope_theta is 10000, but rope_parameters.rope_theta is 5'],
  ])('%o', (more, words) => {
    expect(() => parse(more)).toThrow(ConfigContradictionError);
    expect(() => parse(more)).toThrow(words);
  });

  test('a tile of more patches than any has', () => {
    expect(() => parse({ image_size: 14_000_000 })).toThrow('at most 65536');
  });

  test('an image token that is missing, or two that differ', () => {
    expect(() => parseVision({ vision_config: vision })).toThrow('needs their placeholder token');
    expect(() => parse({}, { image_token_id: 1 })).toThrow('image_token_index is 200092, but image_token_id is 1');
  });

  test('a vision_config that is no object', () => {
    expect(() => parseVision({ vision_config: 3 })).toThrow(ConfigInvalidError);
  });
});
