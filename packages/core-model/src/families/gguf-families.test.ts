import { describe, expect, test } from 'vitest';
import { type ModelContext, upstreamContext } from '../context.ts';
import { coreModels } from '../models/index.ts';
import type { LanguageModel } from '../models/interfaces.ts';
import { failure } from '../weights/checkpoint-files.fixture.ts';
import type { GgufFile, ModelFamily, RawConfig } from './family.ts';
import type { LlamaConfig } from './llama-config.ts';
import type { Llama4Config } from './llama4-config.ts';

/** The families that GGUFs of this name may be of, by the architecture that they are served as. */
const declared = new Map(coreModels.models!.map((one) => [one.architecture, one]));
const familyOf = async (architecture: string) => (await declared.get(architecture)!.family!()) as ModelFamily;

/** A file with the metadata that every decoder has. A tensor is there by its name alone. */
function fileOf(name: string, more: Record<string, unknown> = {}, tensors: readonly string[] = []): GgufFile {
  const shared = {
    block_count: 8,
    context_length: 512,
    embedding_length: 64,
    feed_forward_length: 96,
    'attention.head_count': 4,
    'attention.head_count_kv': 2,
    'attention.layer_norm_rms_epsilon': 1e-5,
    'rope.freq_base': 10_000,
    vocab_size: 384,
  };
  const keys = Object.entries({ ...shared, ...more }).map(([key, value]) => [`${name}.${key}`, value] as const);
  return {
    path: 'model.gguf',
    metadata: new Map<string, unknown>([['general.architecture', name], ...keys]),
    tensors: new Map(tensors.map((key) => [key, {} as never])),
  };
}

/** The config of a file, as its family parses it. */
async function configOf(name: string, more?: Record<string, unknown>, tensors?: readonly string[]) {
  const families = await Promise.all([...declared.keys()].map(familyOf));
  const reading = families.find(({ gguf }) => gguf?.architectures.includes(name))!.gguf!;
  const raw: RawConfig = reading.config(fileOf(name, more, tensors));
  const [architecture] = raw['architectures'] as [string];
  return { architecture, config: (await familyOf(architecture)).parseConfig(raw) as unknown as LlamaConfig & Llama4Config };
}

const experts = { expert_count: 4, expert_used_count: 2, expert_feed_forward_length: 32 };
const windows = ({ layers }: LlamaConfig) => layers.map(({ window }) => window);

describe('what a GGUF lacks is as in llama.cpp', () => {
  test('Qwen2: biases on q, k and v; tied where the file has no output', async () => {
    const { architecture, config } = await configOf('qwen2', {}, ['blk.0.attn_q.bias']);
    expect([architecture, config.qkvBias, config.attentionBias, config.tieWordEmbeddings]).toEqual(['Qwen2ForCausalLM', true, false, true]);
  });

  test('Qwen3-MoE: the chosen probabilities sum to one', async () => {
    const { config } = await configOf('qwen3moe', experts, ['output.weight']);
    expect(config).toMatchObject({ qkNorm: 'head', tieWordEmbeddings: false });
    expect(config.moe).toEqual({ numExperts: 4, topK: 2, intermediateSize: 32, routing: 'softmaxOfChosen' });
  });

  test('Gemma 2 and 3: the one is in the norms, the pattern of windows is known, scores are scaled by the width of a head', async () => {
    const caps = { attn_logit_softcapping: 50, final_logit_softcapping: 30, 'attention.key_length': 32 };
    const { config: two } = await configOf('gemma2', { ...caps, 'attention.sliding_window': 16 });
    expect(two).toMatchObject({ gemmaNorm: false, attentionSoftcap: 50, logitsSoftcap: 30, attentionScale: 32 ** -0.5 });
    expect(windows(two)).toEqual([16, null, 16, null, 16, null, 16, null]);
    const { config: three } = await configOf('gemma3', { 'attention.sliding_window': 16, 'rope.freq_base_swa': 5000 });
    expect(three).toMatchObject({ gemmaNorm: false, attentionSoftcap: null, attentionScale: 16 ** -0.5 });
    expect(three.layers.map(({ window, rope }) => [window, rope?.theta]).slice(4, 6)).toEqual([
      [16, 5000],
      [null, 10_000],
    ]);
    const { config: largest } = await configOf('gemma2', { ...caps, block_count: 46 });
    expect(largest.attentionScale).toBe((64 / 4) ** -0.5);
  });

  test('gpt-oss: clamped at 7, a window in every other layer, a range of YaRN that is not rounded', async () => {
    const scaling = { 'rope.scaling.type': 'yarn', 'rope.scaling.factor': 32, 'rope.scaling.original_context_length': 64 };
    const { config } = await configOf('gpt-oss', { ...experts, ...scaling, 'attention.sliding_window': 12 }, ['blk.0.attn_output.bias']);
    expect(config.moe).toMatchObject({ activation: { kind: 'swigluOai', alpha: 1.702, limit: 7 }, bias: true, intermediateSize: 32 });
    expect(config).toMatchObject({ sinks: true, qkvBias: true, rope: { type: 'yarn', factor: 32, truncate: false } });
    expect(windows(config).slice(0, 2)).toEqual([12, null]);
  });

  test('SmolLM3: no positions in every fourth layer', async () => {
    const { config } = await configOf('smollm3');
    expect(config.layers.map(({ rope }) => rope !== null)).toEqual([true, true, true, false, true, true, true, false]);
  });

  test('Granite: four scales', async () => {
    const { config } = await configOf('granite', { 'attention.scale': 0.5, embedding_scale: 12, residual_scale: 0.25, logit_scale: 8 });
    expect(config).toMatchObject({ attentionScale: 0.5, embeddingScale: 12, residualScale: 0.25, logitsScale: 8 });
  });

  test('OLMo 2: norms after its parts; an OLMo 3, which has windows, is refused', async () => {
    expect((await configOf('olmo2')).config).toMatchObject({ norms: 'after', qkNorm: 'all' });
    expect((await failure(() => configOf('olmo2', { 'attention.sliding_window': 4096 }))).what).toContain('OLMo 3');
  });

  test('Phi-3: part of a head turns', async () => {
    const { config } = await configOf('phi3', { 'rope.dimension_count': 12 });
    expect(config.rope).toEqual({ type: 'default', theta: 10_000, partialRotaryFactor: 0.75 });
  });

  test('part of a head turns in other families too; a rope base of layers with a window is Gemma 3’s', async () => {
    const { config } = await configOf('qwen2', { 'rope.dimension_count': 12 });
    expect(config.rope).toEqual({ type: 'default', theta: 10_000, partialRotaryFactor: 0.75 });
    expect((await failure(() => configOf('qwen2', { 'rope.freq_base_swa': 500 }))).code).toBe('GRAFT_GGUF_UNSUPPORTED');
  });

  test.each([
    ['gemma3', { 'attention.sliding_window': 16, 'attention.sliding_window_pattern': 2 }],
    ['gemma3', {}],
    ['gpt-oss', { ...experts, 'attention.sliding_window': 12, 'rope.scaling.type': 'none', 'rope.scaling.factor': 4 }],
    ['llama', { 'attention.causal': false }],
    ['llama', { 'rope.scaling.type': 'yarn', 'rope.scaling.factor': 4, 'rope.scaling.attn_factor': 1.5 }],
    ['qwen2', { 'attention.head_count_kv': [2, 2, 2, 2, 4, 4, 4, 4] }],
  ])('%s with %o is refused', async (name, more) => {
    expect((await failure(() => configOf(name, more))).code).toMatch(/^GRAFT_(GGUF_UNSUPPORTED|CHECKPOINT_CORRUPT)$/);
  });

  test('a factor without a type is that of linear scaling; a number for each layer may be the same for all', async () => {
    const { config } = await configOf('llama', { 'rope.scaling.factor': 4, 'attention.head_count_kv': new Array(8).fill(2) });
    expect(config.rope).toEqual({ type: 'linear', theta: 10_000, factor: 4 });
    expect(config.numKeyValueHeads).toBe(2);
  });

  test('Ministral 3: queries grow with their position, and YaRN scales nothing', async () => {
    const scaling = { 'rope.scaling.type': 'yarn', 'rope.scaling.factor': 16, 'rope.scaling.original_context_length': 16 };
    const more = { ...scaling, 'rope.scaling.yarn_log_multiplier': 1, 'attention.temperature_scale': 0.1 };
    const { architecture, config } = await configOf('mistral3', more);
    expect([architecture, config.queryScaling]).toEqual(['Ministral3ForCausalLM', { beta: 0.1, period: 16 }]);
    expect(config.rope).toMatchObject({ type: 'yarn', attentionFactor: 1 });
  });

  test('Llama 4: chunks of 8192, no positions in every fourth layer, norms unless there are 128 experts', async () => {
    const { config } = await configOf('llama4', { ...experts, interleave_moe_layer_step: 2 });
    expect(config).toMatchObject({
      attentionChunkSize: 8192,
      useQkNorm: true,
      intermediateSize: 32,
      intermediateSizeMlp: 96,
      floorScale: 8192,
    });
    expect(config.layers.map(({ rope, moe }) => [rope, moe]).slice(2, 4)).toEqual([
      [true, false],
      [false, true],
    ]);
    const maverick = await configOf('llama4', { ...experts, expert_count: 128, interleave_moe_layer_step: 2 });
    expect(maverick.config.useQkNorm).toBe(false);
  });
});

// The names of `gguf.constants.TENSOR_NAMES`.
const tensorName =
  /^(token_embd|output|output_norm|blk\.\d+\.(attn_(norm|q|k|v|qkv|output|q_norm|k_norm|sinks)|ffn_(norm|gate|up|down|gate_inp)|ffn_(gate|up|down)_(exps|shexp)|post_(attention|ffw)_norm))\.(weight|bias)$/;
const textModels = [...declared.keys()].filter((architecture) => architecture !== 'Llama4ForConditionalGeneration');

test.each(textModels)('every parameter of %s has a tensor in the GGUF, by a name of llama.cpp', async (architecture) => {
  const family = await familyOf(architecture);
  const config = family.parseConfig(family.small()[architecture]);
  const Model = (await declared.get(architecture)!.model()) as unknown as new (context: ModelContext) => LanguageModel;
  const rules = family.gguf!.weights(config);
  const model = new Model(upstreamContext(architecture, config, { maxModelLength: 32 }));
  const keys = [...model.namedParameters()].flatMap(([name, { shape }]) => rules.runsOf(name, shape).map(({ key }) => key));
  expect(keys.filter((key) => !tensorName.test(key))).toEqual([]);
  expect(new Set(keys).size).toBeGreaterThan(10);
});
