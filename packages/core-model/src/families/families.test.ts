import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildUpstream } from '@graft/registry';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type ModelContext, upstreamContext } from '../context.ts';
import type { LanguageModel } from '../models/interfaces.ts';
import { LlamaForCausalLM } from '../models/llama.ts';
import { Llama4ForCausalLM } from '../models/llama4.ts';
import { Llama4ForConditionalGeneration } from '../models/mllama4.ts';
import { type Checkpoint, openCheckpoint } from '../weights/checkpoint.ts';
import { failure, temporaryFolder } from '../weights/checkpoint-files.fixture.ts';
import { loadWeights } from '../weights/load-weights.ts';
import { keysOfOtherRanks, mapParameters } from '../weights/map-parameters.ts';
import { WeightRules } from '../weights/rules.ts';
import { float32Policy } from '../weights/weight-policy.ts';
import { writeCheckpoint } from '../weights/write-checkpoint.ts';
import type { ModelConfig, ModelFamily } from './family.ts';
import { llama } from './llama.ts';
import { llama4 } from './llama4.ts';

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

describe.each<[string, ModelFamily, AnyModel]>([
  ['scout-tiny', llama4, Llama4ForCausalLM],
  ['maverick-tiny', llama4, Llama4ForCausalLM],
  ['dense-tiny', llama4, Llama4ForCausalLM],
  ['vision-tiny', llama4, Llama4ForConditionalGeneration],
  ['llama-rope3', llama, LlamaForCausalLM],
  ['llama-bias', llama, LlamaForCausalLM],
])('the weight rules of %s', (name, family, Model) => {
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
    const tensors = new Map([...checkpoint.tensors].filter(([key]) => !key.endsWith('layers.1.self_attn.k_proj.weight')));
    const loading = () =>
      loadWeights(
        build(Model, config),
        { ...checkpoint, tensors },
        { policy: float32Policy, cacheDirectory: null, rules: family.weights(config) },
      );
    const { message } = await failure(loading);
    expect(message).toMatch(/The parameter "\S*layers\.1\.self_attn\.qkv_proj\.weight".* needs "\S*layers\.1\.self_attn\.k_proj\.weight"/);
  });
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

test('the small config of every architecture parses, with as many layers as are asked for', () => {
  for (const family of [llama, llama4] as const) {
    for (const raw of Object.values(family.small(3))) expect(family.parseConfig(raw)).toMatchObject({ numHiddenLayers: 3 });
  }
  expect(
    buildUpstream(LlamaForCausalLM, upstreamContext('LlamaForCausalLM', llama.parseConfig(llama.small()['LlamaForCausalLM']))),
  ).toBeInstanceOf(LlamaForCausalLM);
});

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

  test('with a window that is shorter than the context is refused, with a longer one it is none', async () => {
    expect((await refusal({ sliding_window: 12 })).where).toBe('c.json, key "sliding_window"');
    expect(llama.parseConfig({ ...raw, sliding_window: 4096 })).toEqual(llama.parseConfig(raw));
    expect((await refusal({ layer_types: ['full_attention', 'sliding_attention', 'x', 'x'] })).where).toBe('c.json, key "layer_types.1"');
  });

  test('with biases in the MLP cannot be read as a Llama 4, which has none', async () => {
    const { config } = llama.readAs['Llama4ForCausalLM']!;
    expect((await failure(() => config({ ...raw, mlp_bias: true }, 'c.json'))).where).toBe('c.json, key "mlp_bias"');
  });
  test('may have biases on q, k and v alone, which a Llama 4 cannot have', async () => {
    const model = build(LlamaForCausalLM, llama.parseConfig({ ...raw, qkv_bias: true }));
    const biases = [...model.namedParameters()].map(([name]) => name).filter((name) => name.endsWith('.bias'));
    expect(biases).toEqual([0, 1, 2, 3].map((layer) => `model.layers.${layer}.self_attn.qkv_proj.bias`));
    const { config } = llama.readAs['Llama4ForCausalLM']!;
    expect((await failure(() => config({ ...raw, qkv_bias: true }, 'c.json'))).where).toBe('c.json, key "qkv_bias"');
  });

  test('of quantised weights is refused by the method of its quantization_config', async () => {
    expect(await refusal({ quantization_config: { quant_method: 'awq', bits: 4 } })).toMatchObject({
      code: 'GRAFT_CONFIG_INVALID',
      what: 'The weights are quantised by "awq", which no loaded plugin reads.',
      where: 'c.json, key "quantization_config"',
    });
  });
});
