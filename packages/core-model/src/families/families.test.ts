import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type ModelContext, upstreamContext } from '../context.ts';
import { coreModels } from '../models/index.ts';
import type { LanguageModel } from '../models/interfaces.ts';
import { LlamaForCausalLM } from '../models/llama.ts';
import { Llama4ForCausalLM } from '../models/llama4.ts';
import { type Checkpoint, type CheckpointTensor, openCheckpoint, readModelConfig } from '../weights/checkpoint.ts';
import { failure, temporaryFolder } from '../weights/checkpoint-files.fixture.ts';
import { loadWeights } from '../weights/load-weights.ts';
import { keysOfOtherRanks, mapParameters } from '../weights/map-parameters.ts';
import { WeightRules } from '../weights/rules.ts';
import { float32Policy } from '../weights/weight-policy.ts';
import { writeCheckpoint } from '../weights/write-checkpoint.ts';
import { architecturesOf } from './define-family.ts';
import type { ModelConfig, ModelFamily } from './family.ts';
import { gemma2 } from './gemma2.ts';
import { gemma3 } from './gemma3.ts';
import { gptOss } from './gpt-oss.ts';
import { granite } from './granite.ts';
import { llama } from './llama.ts';
import type { LlamaConfig } from './llama-config.ts';
import { llama4 } from './llama4.ts';
import { mixtral } from './mixtral.ts';
import { olmo2 } from './olmo2.ts';
import { phi3 } from './phi3.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3Moe } from './qwen3-moe.ts';
import { smolLm3 } from './smollm3.ts';

const cases = fileURLToPath(new URL('../../../../tests/parity/cases/', import.meta.url));

async function open(path: string): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(path);
  onTestFinished(() => checkpoint[Symbol.dispose]());
  return checkpoint;
}

type AnyModel = new (context: ModelContext<never>) => LanguageModel;

function build(Model: AnyModel, config: ModelConfig, more: Partial<ModelContext> = {}): LanguageModel {
  return new Model(upstreamContext('any', config, { maxModelLength: 32, ...more }) as ModelContext<never>);
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

const bytesOf = ({ tensors }: Checkpoint) =>
  new Map(
    [...tensors].map(([key, { dtype, shape, file, offset, byteLength }]) => [
      key,
      { dtype, shape, bytes: digest(file.read(offset, byteLength)) },
    ]),
  );

/** The class and the family of an architecture of core-model. */
async function declared(architecture: string): Promise<{ family: ModelFamily; Model: AnyModel }> {
  const { model, family } = coreModels.models!.find((one) => one.architecture === architecture)!;
  return { family: (await family!()) as ModelFamily, Model: (await model()) as unknown as AnyModel };
}

const caseNames = ['scout-tiny', 'maverick-tiny', 'dense-tiny', 'vision-tiny', 'llama-rope3', 'llama-bias', 'mistral-window', 'qwen2-tied'];
caseNames.push('qwen3-norms', 'qwen3moe-step2', 'mixtral-top2', 'gemma2-caps', 'gemma3-pattern3', 'phi3-partial', 'gptoss-sinks');
caseNames.push('smollm3-nope', 'olmo2-post', 'granite-scales');

describe.each(caseNames)('the weight rules of %s', async (name) => {
  const raw = await readModelConfig(join(cases, name));
  const { family, Model } = await declared(architecturesOf(raw)[0]!);
  test('give back the same tensors, byte by byte, when what was loaded is written', async () => {
    const checkpoint = await open(join(cases, name));
    const config = family.parseConfig(checkpoint.config);
    const rules = family.weights(config);
    const model = build(Model, config);
    await loadWeights(model, checkpoint, { policy: () => 'bfloat16', cacheDirectory: null, rules });
    const folder = temporaryFolder();
    writeCheckpoint(folder, new Map(model.namedParameters()), { rules, config: checkpoint.config as Record<string, unknown> });
    const written = await open(folder);
    expect(written.config).toEqual(checkpoint.config);
    expect(bytesOf(written)).toEqual(bytesOf(checkpoint));
  });

  test('tell each rank which tensors are for others, and no tensor is for none', async () => {
    const checkpoint = await open(join(cases, name));
    const config = family.parseConfig(checkpoint.config);
    const rules = family.weights(config);
    const ofRank = (rank: number): string[] => {
      const pipeline = { rank, size: 2 };
      const shapes = [...build(Model, config, { pipeline }).namedParameters()].map(([key, { shape }]) => [key, shape] as const);
      return mapParameters(shapes, checkpoint, { rules, ignoreKeys: keysOfOtherRanks({ config, pipeline }, rules) }).map((one) => one.name);
    };
    const whole = [...build(Model, config).namedParameters()].map(([key]) => key);
    expect(new Set([...ofRank(0), ...ofRank(1)])).toEqual(new Set(whole));
  });

  test('say both names where a tensor is missing', async () => {
    const checkpoint = await open(join(cases, name));
    const config = family.parseConfig(checkpoint.config);
    const tensors = new Map([...checkpoint.tensors].filter(([key]) => !/layers\.1\.self_attn\.(k|qkv)_proj\.weight$/.test(key)));
    const loading = () =>
      loadWeights(
        build(Model, config),
        { ...checkpoint, tensors },
        { policy: float32Policy, cacheDirectory: null, rules: family.weights(config) },
      );
    const { message } = await failure(loading);
    expect(message).toMatch(
      /The parameter "\S*layers\.1\.self_attn\.qkv_proj\.weight".* needs "\S*layers\.1\.self_attn\.(k|qkv)_proj\.weight"/,
    );
  });
});

test('the text of a multimodal Gemma 3 is read without its tower, and its config has the published defaults', async () => {
  const checkpoint = await open(join(cases, 'gemma3-pattern3'));
  const { vocab_size, num_attention_heads, num_key_value_heads, max_position_embeddings, ...text_config } = checkpoint.config as Record<
    string,
    unknown
  >;
  const raw = { architectures: ['Gemma3ForConditionalGeneration'], text_config, vision_config: { hidden_size: 7 } };
  expect(gemma3.parseConfig(raw)).toMatchObject({
    vocabSize: 262_208,
    numAttentionHeads: 8,
    numKeyValueHeads: 4,
    maxPositionEmbeddings: 131_072,
  });
  const { family, Model } = await declared('Gemma3ForConditionalGeneration');
  const config = family.parseConfig(raw, { overrides: { vocab_size, num_attention_heads, num_key_value_heads, max_position_embeddings } });
  const [[, first]] = checkpoint.tensors as unknown as [[string, CheckpointTensor]];
  const tensors = new Map([...checkpoint.tensors].map(([key, tensor]) => [`language_model.${key}`, tensor]));
  tensors.set('vision_tower.vision_model.post_layernorm.weight', first);
  const shapes = [...build(Model, config).namedParameters()].map(([name, { shape }]) => [name, shape] as const);
  const mapped = mapParameters(shapes, { ...checkpoint, tensors }, { rules: family.weights(config) });
  expect(mapped).toHaveLength(shapes.length);
});

test('a Llama is read as a Llama 4 with the same weights, q and k in the order of its rotation', async () => {
  const checkpoint = await open(join(cases, 'llama-rope3'));
  const { config: toLlama4, weights } = llama.readAs['Llama4ForCausalLM']!;
  const config = llama4.parseConfig(toLlama4(checkpoint.config as Record<string, unknown>));
  const model = build(Llama4ForCausalLM, config);
  const rules = weights(config as never, 'safetensors');
  await loadWeights(model, checkpoint, { policy: float32Policy, cacheDirectory: null, rules });
  const plain = build(LlamaForCausalLM, llama.parseConfig(checkpoint.config));
  await loadWeights(plain, checkpoint, {
    policy: float32Policy,
    cacheDirectory: null,
    rules: llama.weights(llama.parseConfig(checkpoint.config)),
  });
  const row = (of: LanguageModel, index: number): number[] => {
    const values = new Map(of.namedParameters()).get('model.layers.0.self_attn.qkv_proj.weight')!.toFloat32();
    return [...values.subarray(index * config.hiddenSize, (index + 1) * config.hiddenSize)];
  };
  // The second head of 16: its rows 0 and 8 are a pair, rows 16 and 24 of q.
  expect([row(model, 16), row(model, 17)]).toEqual([row(plain, 16), row(plain, 24)]);
  expect(row(model, 127)).toEqual(row(plain, 127)); // v is as it was
});

test('a fused tensor of the parameter’s own name is taken as it is', async () => {
  const checkpoint = await open(join(cases, 'llama-rope3'));
  const config = llama.parseConfig(checkpoint.config);
  const loaded = async (from: Checkpoint) => {
    const model = build(LlamaForCausalLM, config);
    await loadWeights(model, from, { policy: float32Policy, cacheDirectory: null, rules: llama.weights(config) });
    return model;
  };
  const model = await loaded(checkpoint);
  const folder = temporaryFolder();
  writeCheckpoint(folder, new Map(model.namedParameters()), {
    rules: new WeightRules({}),
    config: checkpoint.config as Record<string, unknown>,
  });
  const fused = await open(folder);
  expect([...fused.tensors.keys()]).toContain('model.layers.0.self_attn.qkv_proj.weight');
  const values = (of: LanguageModel) =>
    new Map([...of.namedParameters()].map(([name, parameter]) => [name, digest(new Uint8Array(parameter.toFloat32().buffer))]));
  expect(values(await loaded(fused))).toEqual(values(model));
});

test.each(coreModels.models!.map(({ architecture }) => architecture))(
  'the small config of %s makes its model, with as many layers as are asked for',
  async (architecture) => {
    const { family, Model } = await declared(architecture);
    expect(family.parseConfig(family.small(3)[architecture])).toMatchObject({ numHiddenLayers: 3 });
    expect(build(Model, family.parseConfig(family.small()[architecture]))).toBeInstanceOf(Model);
  },
);

describe('overrides of a config', () => {
  const raw = llama4.small()['Llama4ForConditionalGeneration']!;

  test('reach the vision tower by a dotted key and by an object, and null leaves it out', () => {
    const sideOf = (overrides: Record<string, unknown>) => llama4.parseConfig(raw, { overrides }).vision?.imageSize ?? null;
    expect(sideOf({ 'vision_config.image_size': 28 })).toBe(28);
    expect(sideOf({ vision_config: { image_size: 28 } })).toBe(28);
    expect(sideOf({ vision_config: null })).toBeNull();
    expect(llama4.parseConfig(raw, { images: false }).vision).toBeNull();
  });

  test('reach the text model with and without its name', () => {
    for (const overrides of [{ vocab_size: 99 }, { 'text_config.vocab_size': 99 }, { text_config: { vocab_size: 99 } }])
      expect(llama4.parseConfig(raw, { overrides }).vocabSize).toBe(99);
  });

  test('that no key has are an error with the nearest names, in the nested config too', async () => {
    const error = await failure(() => llama4.parseConfig(raw, { overrides: { 'vision_config.image_sise': 28 } }));
    expect([error.code, error.what, error.fix]).toEqual([
      'GRAFT_CONFIG_OVERRIDE_UNKNOWN',
      'This model\'s config has no key "vision_config.image_sise".',
      expect.stringContaining('"vision_config.image_size"'),
    ]);
  });
});

describe('a Llama’s config', () => {
  const raw = llama.small()['LlamaForCausalLM']!;
  const refusal = (more: Record<string, unknown>) => failure(() => llama.parseConfig({ ...raw, ...more }, { where: 'c.json' }));

  test('is read as published and as transformers 5 writes it', () => {
    const { rope_theta: _, ...rest } = raw;
    const newer = { ...rest, rope_parameters: { rope_type: 'default', rope_theta: 10_000 }, dtype: 'bfloat16' };
    const types = { layer_types: new Array<string>(4).fill('full_attention') };
    expect(llama.parseConfig({ ...newer, ...types })).toEqual({
      ...llama.parseConfig({ ...raw, torch_dtype: 'bfloat16' }),
      layerTypes: types.layer_types,
    });
  });

  test('has no window; a Mistral has one in every layer, or in those that layer_types names', async () => {
    const architectures = ['MistralForCausalLM'];
    const windows = (more: Record<string, unknown>) =>
      llama.parseConfig({ ...raw, architectures, ...more }).layers.map(({ window }) => window);
    expect(windows({ sliding_window: 12, architectures: raw['architectures'] })).toEqual([null, null, null, null]);
    expect(windows({ sliding_window: 12 })).toEqual([12, 12, 12, 12]);
    expect(windows({ sliding_window: 12, use_sliding_window: false })).toEqual([12, 12, 12, 12]);
    expect(windows({ max_position_embeddings: 8192 })).toEqual([4096, 4096, 4096, 4096]);
    expect(windows({ max_position_embeddings: 8192, sliding_window: null })).toEqual([null, null, null, null]);
    const layer_types = ['full_attention', 'sliding_attention', 'full_attention', 'full_attention'];
    expect(windows({ sliding_window: 12, layer_types })).toEqual([null, 12, null, null]);
    expect(windows({ sliding_window: 4096 })).toEqual([null, null, null, null]); // longer than the context
    expect((await refusal({ layer_types: ['full_attention', 'sliding_attention', 'x', 'x'] })).where).toBe('c.json, key "layer_types.1"');
  });

  test('with a window or with biases in the MLP cannot be read as a Llama 4, which has neither', async () => {
    const { config } = llama.readAs['Llama4ForCausalLM']!;
    expect((await failure(() => config({ ...raw, architectures: ['MistralForCausalLM'], sliding_window: 12 }, 'c.json'))).where).toBe(
      'c.json, key "sliding_window"',
    );
    expect((await failure(() => config({ ...raw, mlp_bias: true }, 'c.json'))).where).toBe('c.json, key "mlp_bias"');
  });
  test('may have biases on q, k and v alone, which a Llama 4 cannot have', async () => {
    const model = build(LlamaForCausalLM, llama.parseConfig({ ...raw, qkv_bias: true }));
    const biases = [...model.namedParameters()].map(([name]) => name).filter((name) => name.endsWith('.bias'));
    expect(biases).toEqual([0, 1, 2, 3].map((layer) => `model.layers.${layer}.self_attn.qkv_proj.bias`));
    const { config } = llama.readAs['Llama4ForCausalLM']!;
    expect((await failure(() => config({ ...raw, qkv_bias: true }, 'c.json'))).where).toBe('c.json, key "qkv_bias"');
  });

  test.each([
    ['is_causal', { is_causal: false }],
    ['partial_rotary_factor', { partial_rotary_factor: 0.5 }],
    ['rope_parameters.partial_rotary_factor', { rope_parameters: { rope_theta: 10_000, partial_rotary_factor: 0.5 } }],
    ['rope_parameters', { rope_parameters: { full_attention: { rope_theta: 10_000 } } }],
    ['layer_types.0', { sliding_window: 12, layer_types: new Array<string>(4).fill('sliding_attention') }],
  ])('is refused where the published implementation ignores the key %s, or computes what we do not', async (key, more) => {
    expect(await refusal(more)).toMatchObject({ code: 'GRAFT_CONFIG_INVALID', where: `c.json, key "${key}"` });
  });

  test('of quantised weights is refused by the method of its quantization_config', async () => {
    expect(await refusal({ quantization_config: { quant_method: 'awq', bits: 4 } })).toMatchObject({
      code: 'GRAFT_CONFIG_INVALID',
      what: 'The weights are quantised by "awq", which no loaded plugin reads.',
      where: 'c.json, key "quantization_config"',
    });
    for (const key of ['quantization', 'quantization_config'])
      expect((await refusal({ [key]: { group_size: 64, bits: 4 } })).what).toContain('without "quant_method", such as MLX\'s');
  });

  test('of a million layers is refused before any is built', async () => {
    expect(await refusal({ num_hidden_layers: 1_000_000 })).toMatchObject({ where: 'c.json, key "num_hidden_layers"' });
  });
});

describe('the configs of other families are read as published and as transformers 5 writes them', () => {
  const parse = (family: ModelFamily, more: Record<string, unknown> = {}, layers?: number) =>
    family.parseConfig(JSON.parse(JSON.stringify({ ...Object.values(family.small(layers))[0], ...more }))) as LlamaConfig;
  const windowsOf = (config: LlamaConfig) => config.layers.map(({ window }) => window);
  const theta = (rope_theta: number) => ({ rope_type: 'default', rope_theta });

  test('Gemma 3: a pattern and two bases, or a list of types and a rope for each type', () => {
    const published = parse(gemma3, { sliding_window_pattern: 3, rope_theta: 1_000_000, rope_local_base_freq: 10_000 });
    const layer_types = ['sliding_attention', 'sliding_attention', 'full_attention', 'sliding_attention'];
    const rope_parameters = { sliding_attention: theta(10_000), full_attention: theta(1_000_000) };
    const newer = parse(gemma3, { sliding_window_pattern: 6, rope_theta: undefined, layer_types, rope_parameters });
    expect(newer.layers).toEqual(published.layers);
    expect(published.layers.map(({ window, rope }) => [window, rope?.theta])).toEqual([
      [10, 10_000],
      [10, 10_000],
      [null, 1_000_000],
      [10, 10_000],
    ]);
  });

  test('Gemma 3: parameters of one rope for all layers are refused, and the cap of scores has no effect', () => {
    expect(() => parse(gemma3, { rope_theta: undefined, rope_parameters: theta(300) })).toThrow('Give the parameters of "full_attention"');
    expect(() => parse(gemma3, { rope_scaling: { type: 'linear', factor: 8 } })).toThrow('Rope type "linear" must be given as "rope_type"');
    expect(parse(gemma3, { attn_logit_softcapping: 3 }).attentionSoftcap).toBeNull();
  });

  test('a rope base of layers with a window belongs to Gemma 3 alone', () => {
    expect(parse(gemma2, { rope_local_base_freq: 100 }).layers).toEqual(parse(gemma2).layers);
  });

  test('Mixtral, Granite, OLMo 2: layer_types changes no window', () => {
    const layer_types = ['full_attention', 'full_attention', 'sliding_attention', 'full_attention'];
    for (const family of [mixtral, qwen3Moe, phi3])
      expect(() => parse(family, { sliding_window: 8, use_sliding_window: true, layer_types })).toThrow('differs from sliding_window');
    for (const family of [granite, olmo2]) expect(windowsOf(parse(family, { sliding_window: 8 }))).toEqual([null, null, null, null]);
  });

  test('gpt-oss: YaRN where the config has no rope parameters', () => {
    expect(parse(gptOss, { rope_theta: undefined, rope_scaling: null }).rope).toMatchObject({ type: 'yarn', theta: 150_000, factor: 32 });
    expect(parse(gptOss, { rope_parameters: theta(10_000) }).rope).toEqual({ type: 'default', theta: 10_000 });
  });

  test('Ministral 3: a zero multiplier of YaRN counts as missing; the outer original length is the period of queries', () => {
    const rope_parameters = { ...theta(10_000), rope_type: 'yarn', factor: 16, mscale: 1, mscale_all_dim: 0, llama_4_scaling_beta: 0.1 };
    const config = parse(llama, { architectures: ['Ministral3ForCausalLM'], rope_parameters, original_max_position_embeddings: 9 });
    expect(config.queryScaling).toEqual({ beta: 0.1, period: 9 });
    expect(config.rope).toMatchObject({ originalMaxPositionEmbeddings: 9, attentionFactor: 0.1 * Math.log(16) + 1 });
    expect(() => parse(qwen2, { rope_parameters, original_max_position_embeddings: 9 })).toThrow('Queries do not grow with their position');
  });

  test('Gemma 2: every other layer has the window, from the first on', () => {
    expect(windowsOf(parse(gemma2))).toEqual([12, null, 12, null]);
  });

  test('Qwen2: the window counts from max_window_layers on, and only where use_sliding_window is set', () => {
    expect(windowsOf(parse(qwen2, { sliding_window: 8, max_window_layers: 2 }))).toEqual([null, null, null, null]);
    expect(windowsOf(parse(qwen2, { sliding_window: 8, max_window_layers: 2, use_sliding_window: true }))).toEqual([null, null, 8, 8]);
  });

  test('Qwen3-MoE: the number of experts has two names; dense layers are named, or are those between steps', () => {
    const { num_experts, ...small } = Object.values(qwen3Moe.small())[0]!;
    const config = qwen3Moe.parseConfig({ ...small, num_local_experts: num_experts, mlp_only_layers: null, decoder_sparse_step: 2 });
    expect(config.moe?.numExperts).toBe(num_experts);
    expect(config.layers.map(({ moe }) => moe)).toEqual([false, true, false, true]);
  });

  test('SmolLM3: layers without positions are listed, or are every fourth; a list of another length is a contradiction', async () => {
    const rotated = (more: Record<string, unknown>) => parse(smolLm3, more).layers.map(({ rope }) => rope !== null);
    expect(rotated({})).toEqual([true, true, true, false]);
    expect(rotated({ no_rope_layers: [0, 1, 1, 1] })).toEqual([false, true, true, true]);
    expect((await failure(() => parse(smolLm3, { no_rope_layers: [1] }))).code).toBe('GRAFT_CONFIG_CONTRADICTION');
  });

  test('Phi-3: the part of a head that turns, and LongRoPE under its older name, whose lists must have a number for each frequency', async () => {
    const lists = { short_factor: [1, 1, 1, 1], long_factor: [2, 2, 2, 2] };
    const more = { head_dim: 8, partial_rotary_factor: 1, original_max_position_embeddings: 64, max_position_embeddings: 256 };
    // sqrt(1 + ln 4 / ln 64), as `_compute_longrope_parameters` of transformers has it
    const rope = { type: 'longrope', theta: 10_000, originalMaxPositionEmbeddings: 64, attentionFactor: expect.closeTo(Math.sqrt(4 / 3)) };
    expect(parse(phi3, { ...more, rope_scaling: { type: 'su', ...lists } }).rope).toMatchObject(rope);
    const newer = { ...theta(10_000), rope_type: 'longrope', partial_rotary_factor: 0.5, ...lists };
    expect(parse(phi3, { ...more, head_dim: 16, partial_rotary_factor: undefined, rope_parameters: newer }).rope).toMatchObject({
      ...rope,
      partialRotaryFactor: 0.5,
    });
    const error = await failure(() => parse(phi3, { ...more, head_dim: 16, rope_scaling: { type: 'longrope', ...lists } }));
    expect(error.what).toBe('short_factor has 4 numbers for 8 frequencies.');
  });

  test('YaRN: the scale of the rotation follows from the factor, or from mscale and mscale_all_dim', () => {
    const scaleOf = (more: Record<string, unknown>) => parse(qwen2, { rope_scaling: { type: 'yarn', factor: 4, ...more } }).rope;
    expect(scaleOf({})).toMatchObject({ type: 'yarn', factor: 4, attentionFactor: 0.1 * Math.log(4) + 1, truncate: true });
    expect(scaleOf({ mscale: 1, mscale_all_dim: 1 })).toMatchObject({ attentionFactor: 1 });
  });
});
