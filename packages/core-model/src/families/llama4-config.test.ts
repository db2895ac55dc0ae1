import { describe, expect, test } from 'vitest';
import type { ParseConfigOptions } from './family.ts';
import { llama4 } from './llama4.ts';
import type { Llama4Config } from './llama4-config.ts';

const raw = {
  architectures: ['Llama4ForCausalLM'],
  vocab_size: 320,
  hidden_size: 64,
  intermediate_size: 32,
  intermediate_size_mlp: 96,
  num_hidden_layers: 8,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 256,
};

const parse = (more: Record<string, unknown> = {}, options: ParseConfigOptions = {}): Llama4Config =>
  llama4.parseConfig({ ...raw, ...more }, options);

function failure(more: Record<string, unknown>, options: ParseConfigOptions = {}): unknown {
  try {
    parse(more, { where: 'model/config.json', ...options });
  } catch (error) {
    return error;
  }
  throw new Error('It was accepted.');
}

const moeLayers = (config: Llama4Config): number[] => config.layers.flatMap(({ moe }, i) => (moe ? [i] : []));
const nopeLayers = (config: Llama4Config): number[] => config.layers.flatMap(({ rope }, i) => (rope ? [] : [i]));

describe('which layers have experts', () => {
  test('all of them unless the config says otherwise', () => {
    expect(moeLayers(parse())).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });
  test('with a step of 2 every second one, and with 0 none', () => {
    expect(moeLayers(parse({ interleave_moe_layer_step: 2 }))).toEqual([1, 3, 5, 7]);
    expect(moeLayers(parse({ interleave_moe_layer_step: 0 }))).toEqual([]);
  });
  test('moe_layers wins over the step, an empty list too; null is no list', () => {
    expect(moeLayers(parse({ moe_layers: [0, 5], interleave_moe_layer_step: 2 }))).toEqual([0, 5]);
    expect(moeLayers(parse({ moe_layers: [], interleave_moe_layer_step: 2 }))).toEqual([]);
    expect(moeLayers(parse({ moe_layers: null, interleave_moe_layer_step: 4 }))).toEqual([3, 7]);
  });
  test('a layer that is not there is a contradiction with both numbers', () => {
    expect(failure({ moe_layers: [3, 8] })).toMatchObject({
      code: 'GRAFT_CONFIG_CONTRADICTION',
      what: 'moe_layers names layer 8, but num_hidden_layers is 8.',
      where: 'model/config.json',
    });
  });
});

describe('which layers have no rope', () => {
  test('every fourth by default, every one of the interval when it is given', () => {
    expect(nopeLayers(parse())).toEqual([3, 7]);
    expect(nopeLayers(parse({ no_rope_layer_interval: 3 }))).toEqual([2, 5]);
  });
  test('those with 0 in no_rope_layers, which wins over the interval; an empty list counts as none', () => {
    expect(nopeLayers(parse({ no_rope_layers: [0, 1, 1, 1, 1, 1, 0, 1], no_rope_layer_interval: 3 }))).toEqual([0, 6]);
    expect(nopeLayers(parse({ no_rope_layers: [], no_rope_layer_interval: 3 }))).toEqual([2, 5]);
  });
  test('a list of another length is a contradiction', () => {
    expect(failure({ no_rope_layers: [1, 1, 0] })).toMatchObject({
      code: 'GRAFT_CONFIG_CONTRADICTION',
      what: 'no_rope_layers has 3 entries, but num_hidden_layers is 8.',
    });
  });
  test('layer_types may say the same, and is an error when it does not', () => {
    const types = Array.from({ length: 8 }, (_, i) => (i % 4 === 3 ? 'full_attention' : 'chunked_attention'));
    expect(nopeLayers(parse({ layer_types: types }))).toEqual([3, 7]);
    expect(failure({ layer_types: types.with(2, 'full_attention') })).toMatchObject({
      code: 'GRAFT_CONFIG_CONTRADICTION',
      what: 'layer_types[2] is "full_attention", but no_rope_layers makes it "chunked_attention".',
    });
    expect(failure({ layer_types: types.slice(1) })).toMatchObject({ what: 'layer_types has 7 entries for 8 layers.' });
  });

  test('without chunks every layer attends to all, and layer_types says so', () => {
    const types = new Array<string>(8).fill('full_attention');
    expect(parse({ attention_chunk_size: null, layer_types: types }).attentionChunkSize).toBeNull();
    expect(failure({ attention_chunk_size: null, layer_types: types.with(0, 'chunked_attention') })).toMatchObject({
      what: 'layer_types[0] is "chunked_attention", but attention_chunk_size, which is null, makes it "full_attention".',
    });
  });
});

describe('rope', () => {
  const llama3 = { factor: 16, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 8192 };
  const parsed = { type: 'llama3', theta: 10000, factor: 16, lowFreqFactor: 1, highFreqFactor: 4, originalMaxPositionEmbeddings: 8192 };

  test('theta is 500000 and nothing is scaled unless the config says so', () => {
    expect(parse().rope).toEqual({ type: 'default', theta: 500_000 });
    expect(parse({ rope_scaling: null, rope_theta: 10000 }).rope).toEqual({ type: 'default', theta: 10000 });
  });
  test.each([
    ['rope_parameters', { rope_parameters: { rope_theta: 10000, rope_type: 'llama3', ...llama3 } }],
    ['rope_theta and rope_scaling', { rope_theta: 10000, rope_scaling: { rope_type: 'llama3', ...llama3 } }],
    ['the older "type"', { rope_theta: 10000, rope_scaling: { type: 'llama3', ...llama3 } }],
    [
      'both, when they agree',
      {
        rope_theta: 10000,
        rope_scaling: { type: 'llama3', ...llama3 },
        rope_parameters: { rope_theta: 10000, rope_type: 'llama3', ...llama3 },
      },
    ],
  ])('%s gives the same', (_form, more) => {
    expect(parse(more).rope).toEqual(parsed);
  });
  test('linear scaling needs its factor only', () => {
    expect(parse({ rope_parameters: { rope_type: 'linear', factor: 2 } }).rope).toEqual({ type: 'linear', theta: 500_000, factor: 2 });
  });
  test('two forms that disagree are a contradiction, so that an override of the older one is not ignored', () => {
    const rope_parameters = { rope_theta: 10000, rope_type: 'default' };
    expect(failure({ rope_parameters }, { overrides: { rope_theta: 500 } })).toMatchObject({
      code: 'GRAFT_CONFIG_CONTRADICTION',
      what: 'rope_theta is 500, but rope_parameters.rope_theta is 10000.',
    });
    expect(failure({ rope_parameters }, { overrides: { rope_scaling: { type: 'linear', factor: 2 } } })).toMatchObject({
      code: 'GRAFT_CONFIG_CONTRADICTION',
      what: expect.stringContaining('but rope_scaling gives {"type":"linear","theta":10000,"factor":2}'),
    });
  });
  test('a missing number is named with its key', () => {
    expect(failure({ rope_scaling: { type: 'llama3', factor: 8, high_freq_factor: 4 } })).toMatchObject({
      code: 'GRAFT_CONFIG_INVALID',
      what: 'Rope type "llama3" needs "low_freq_factor".',
      where: 'model/config.json, key "rope_scaling.low_freq_factor"',
    });
  });
  test('an unknown type is not guessed at: the error lists those that are known', () => {
    expect(failure({ rope_parameters: { rope_type: 'dynamic', factor: 4 } })).toMatchObject({
      code: 'GRAFT_ROPE_TYPE_UNKNOWN',
      what: 'Rope type "dynamic" is unknown; known types are default, linear, llama3, yarn, longrope.',
      where: 'model/config.json, key "rope_parameters.rope_type"',
    });
  });
});

describe('a multimodal config', () => {
  const { architectures: _, ...text } = raw;
  const multimodal = { architectures: ['Llama4ForConditionalGeneration'], text_config: text, vision_config: { hidden_size: 7 } };

  test('has its text model under text_config', () => {
    const config = llama4.parseConfig(multimodal, { overrides: { vocab_size: 99 }, images: false });
    expect([config.hiddenSize, config.vocabSize]).toEqual([64, 99]);
  });
  test('whose text_config is no object is refused', () => {
    expect(() => llama4.parseConfig({ ...multimodal, text_config: [] }, { where: 'c.json' })).toThrow(
      '"text_config" is not a JSON object.\n  where: c.json, key "text_config"',
    );
  });
});

describe('overrides', () => {
  test('replace any key of the schema and any that the config has', () => {
    const config = parse({ pad_token_id: 0 }, { overrides: { num_hidden_layers: 2, pad_token_id: 1, architectures: ['Other'] } });
    expect(config.layers.length).toBe(2);
  });
  test('with an unknown key are an error with the nearest names', () => {
    expect(failure({}, { overrides: { num_hiden_layers: 2 } })).toMatchObject({
      code: 'GRAFT_CONFIG_OVERRIDE_UNKNOWN',
      what: 'This model\'s config has no key "num_hiden_layers".',
      where: 'config override "num_hiden_layers"',
      fix: expect.stringMatching(/^did you mean "num_hidden_layers", "\w+", "\w+"\?$/),
    });
  });
  test('are held to the same schema', () => {
    expect(failure({}, { overrides: { hidden_size: '64' } })).toMatchObject({
      code: 'GRAFT_CONFIG_INVALID',
      where: 'model/config.json, key "hidden_size"',
    });
  });
});

describe('single keys', () => {
  test.each([
    [4, true],
    [true, true],
    [0, false],
    [false, false],
  ])('attn_temperature_tuning %s counts as %s', (given, expected) => {
    expect(parse({ attn_temperature_tuning: given }).attnTemperatureTuning).toBe(expected);
  });
  test.each([
    [2, [2]],
    [
      [200001, 200007],
      [200001, 200007],
    ],
    [null, []],
    [undefined, []],
  ])('eos_token_id %s ends an answer at %s', (given, expected) => {
    expect(parse(given === undefined ? {} : { eos_token_id: given }).eosTokenIds).toEqual(expected);
  });
  test('what is left out, and shows in no weight, has the value of the published configuration class; null has a meaning of its own', () => {
    expect(parse()).toMatchObject({
      headDim: 16,
      rmsNormEps: 1e-5,
      tieWordEmbeddings: false,
      attentionChunkSize: 8192,
      useQkNorm: true,
      attnTemperatureTuning: true,
      floorScale: 8192,
      attnScale: 0.1,
      numLocalExperts: 16,
      numExpertsPerTok: 1,
    });
    expect(parse({ attention_chunk_size: null, num_key_value_heads: null })).toMatchObject({
      attentionChunkSize: null,
      numKeyValueHeads: 4,
    });
  });
  test.each([
    [{ vocab_size: undefined }, 'GRAFT_CONFIG_INVALID', 'key "vocab_size"'],
    [{ hidden_act: 'gelu' }, 'GRAFT_CONFIG_INVALID', 'key "hidden_act"'],
    [{ no_rope_layers: [2] }, 'GRAFT_CONFIG_INVALID', 'key "no_rope_layers.0"'],
    [{ num_key_value_heads: 3 }, 'GRAFT_CONFIG_CONTRADICTION', 'num_attention_heads 4 is not a multiple of num_key_value_heads 3'],
    [{ head_dim: 15 }, 'GRAFT_CONFIG_CONTRADICTION', 'head_dim is 15'],
    [{ hidden_size: 66 }, 'GRAFT_CONFIG_CONTRADICTION', 'head_dim is 16.5'],
    [{ num_experts_per_tok: 17 }, 'GRAFT_CONFIG_CONTRADICTION', 'num_experts_per_tok 17 is more than num_local_experts 16'],
  ])('%o is refused', (more, code, says) => {
    const error = failure(more) as Error;
    expect(error).toMatchObject({ code });
    expect(error.message).toContain(says);
  });
  test.each([[null], [[]], ['{}'], [7]])('a config that is %j is refused', (config) => {
    expect(() => llama4.parseConfig(config)).toThrow('The config is not a JSON object.');
  });
});
