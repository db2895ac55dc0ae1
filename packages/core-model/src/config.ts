import { distance } from 'fastest-levenshtein';
import { z } from 'zod';
import { ConfigContradictionError, ConfigInvalidError, ConfigOverrideUnknownError, RopeTypeError } from './errors.ts';

const positive = z.int().positive();
const tokenIds = z
  .union([z.int(), z.array(z.int()), z.null()])
  .default(null)
  .transform((ids) => (ids === null ? [] : [ids].flat()));

const RopeParameters = z.looseObject({
  rope_type: z.string().exactOptional(),
  /** The older name of `rope_type`. */
  type: z.string().exactOptional(),
  rope_theta: z.number().positive().exactOptional(),
  factor: z.number().positive().exactOptional(),
  low_freq_factor: z.number().positive().exactOptional(),
  high_freq_factor: z.number().positive().exactOptional(),
  original_max_position_embeddings: positive.exactOptional(),
});

/** Keys of config.json that decide what a Llama 4 text model computes; others are carried by checkpoints and ignored. */
const RawTextConfig = z.looseObject({
  architectures: z.array(z.string()).nullish(),
  model_type: z.string().exactOptional(),
  vocab_size: positive,
  hidden_size: positive,
  intermediate_size: positive,
  intermediate_size_mlp: positive.exactOptional(),
  num_hidden_layers: positive,
  num_attention_heads: positive,
  num_key_value_heads: positive.nullish(),
  head_dim: positive.nullish(),
  hidden_act: z.literal('silu').default('silu'),
  max_position_embeddings: positive,
  rms_norm_eps: z.number().positive().default(1e-5),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().default(false),
  /** Null: full attention on rope layers too. */
  attention_chunk_size: positive.nullable().default(8192),
  moe_layers: z.array(z.int().nonnegative()).nullish(),
  interleave_moe_layer_step: z.int().nonnegative().default(1),
  no_rope_layers: z.array(z.union([z.literal(0), z.literal(1)])).nullish(),
  no_rope_layer_interval: positive.default(4),
  layer_types: z.array(z.string()).nullish(),
  use_qk_norm: z.boolean().default(true),
  /** Some published checkpoints have the number 4 here, which counts as true. */
  attn_temperature_tuning: z.union([z.boolean(), z.number().transform((n) => n !== 0)]).default(true),
  floor_scale: z.number().positive().default(8192),
  attn_scale: z.number().default(0.1),
  num_local_experts: positive.default(16),
  num_experts_per_tok: positive.default(1),
  rope_parameters: RopeParameters.nullish(),
  rope_theta: z.number().positive().exactOptional(),
  rope_scaling: RopeParameters.nullish(),
  bos_token_id: tokenIds,
  eos_token_id: tokenIds,
});

/** How positions become rotations. Frequencies are scaled for `linear` and `llama3` as the published checkpoints have it. */
export type RopeConfig =
  | { type: 'default'; theta: number }
  | { type: 'linear'; theta: number; factor: number }
  | { type: 'llama3'; theta: number; factor: number; lowFreqFactor: number; highFreqFactor: number; originalMaxPositionEmbeddings: number };

/** One decoder layer's kind. */
export interface LayerConfig {
  rope: boolean;
  moe: boolean;
}

/** A Llama 4 text model, after all rules are applied. */
export interface Llama4TextConfig {
  architectures: string[];
  vocabSize: number;
  hiddenSize: number;
  /** Of an expert and of the shared expert. */
  intermediateSize: number;
  /** Of a dense layer. */
  intermediateSizeMlp: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  numKeyValueHeads: number;
  headDim: number;
  maxPositionEmbeddings: number;
  rmsNormEps: number;
  tieWordEmbeddings: boolean;
  attentionBias: boolean;
  /** Null: full attention on rope layers too. */
  attentionChunkSize: number | null;
  useQkNorm: boolean;
  attnTemperatureTuning: boolean;
  floorScale: number;
  attnScale: number;
  numLocalExperts: number;
  numExpertsPerTok: number;
  rope: RopeConfig;
  layers: LayerConfig[];
  bosTokenIds: number[];
  eosTokenIds: number[];
}

export interface ParseConfigOptions {
  /** For error messages: the file that the raw config comes from. */
  where?: string;
  /** Keys that replace those of the raw config. For a multimodal model they reach into `text_config`. */
  overrides?: Record<string, unknown>;
}

/**
 * A config.json (text model, or a multimodal one's `text_config`) with its rules applied: `moe_layers` wins over `interleave_moe_layer_step`,
 * `no_rope_layers` alone decides NoPE and chunking, `rope_parameters` and the older `rope_theta` / `rope_scaling` are both read.
 * @throws ConfigInvalidError, ConfigContradictionError, RopeTypeError, ConfigOverrideUnknownError, each naming the key.
 */
export function parseLlama4Config(raw: unknown, { where = 'config.json', overrides = {} }: ParseConfigOptions = {}): Llama4TextConfig {
  const text = textConfigOf(raw, where);
  const parsed = RawTextConfig.safeParse(applyOverrides(text, overrides));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new ConfigInvalidError(`${issue?.message ?? 'It is not valid'}.`, `${where}, key "${issue?.path.join('.') ?? ''}"`);
  }
  const config = parsed.data;
  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0)
    throw new ConfigContradictionError(`num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}.`, where);
  const headDim = config.head_dim ?? config.hidden_size / heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
    throw new ConfigContradictionError(
      `head_dim is ${headDim}: rotary embedding needs an even whole number (hidden_size ${config.hidden_size}, ${heads} heads).`,
      where,
    );
  }
  if (config.num_experts_per_tok > config.num_local_experts) {
    throw new ConfigContradictionError(
      `num_experts_per_tok ${config.num_experts_per_tok} is more than num_local_experts ${config.num_local_experts}.`,
      where,
    );
  }
  return {
    architectures: architecturesOf('architectures' in overrides ? overrides : raw, where),
    vocabSize: config.vocab_size,
    hiddenSize: config.hidden_size,
    intermediateSize: config.intermediate_size,
    intermediateSizeMlp: config.intermediate_size_mlp ?? config.intermediate_size,
    numHiddenLayers: config.num_hidden_layers,
    numAttentionHeads: heads,
    numKeyValueHeads: kvHeads,
    headDim,
    maxPositionEmbeddings: config.max_position_embeddings,
    rmsNormEps: config.rms_norm_eps,
    tieWordEmbeddings: config.tie_word_embeddings,
    attentionBias: config.attention_bias,
    attentionChunkSize: config.attention_chunk_size,
    useQkNorm: config.use_qk_norm,
    attnTemperatureTuning: config.attn_temperature_tuning,
    floorScale: config.floor_scale,
    attnScale: config.attn_scale,
    numLocalExperts: config.num_local_experts,
    numExpertsPerTok: config.num_experts_per_tok,
    rope: ropeOf(config, where),
    layers: layersOf(config, where),
    bosTokenIds: config.bos_token_id,
    eosTokenIds: config.eos_token_id,
  };
}

/** The `architectures` of a config.json, in order. @throws ConfigInvalidError when there are none. */
export function architecturesOf(raw: unknown, where = 'config.json'): string[] {
  const parsed = z.looseObject({ architectures: z.array(z.string()).min(1) }).safeParse(raw);
  if (!parsed.success)
    throw new ConfigInvalidError('"architectures" must be a list with at least one name.', `${where}, key "architectures"`);
  return parsed.data.architectures;
}

/** A multimodal config holds the text model's under `text_config`. */
function textConfigOf(raw: unknown, where: string): Record<string, unknown> {
  const object = z.record(z.string(), z.unknown()).safeParse(raw);
  if (!object.success) throw new ConfigInvalidError('The config is not a JSON object.', where);
  const inner = object.data['text_config'];
  if (inner === undefined) return object.data;
  const text = z.record(z.string(), z.unknown()).safeParse(inner);
  if (!text.success) throw new ConfigInvalidError('"text_config" is not a JSON object.', `${where}, key "text_config"`);
  return text.data;
}

function applyOverrides(config: Record<string, unknown>, overrides: Record<string, unknown>): Record<string, unknown> {
  const known = [...new Set([...Object.keys(RawTextConfig.shape), ...Object.keys(config)])];
  for (const key of Object.keys(overrides)) {
    if (known.includes(key)) continue;
    const nearest = [...known].sort((a, b) => distance(key, a) - distance(key, b)).slice(0, 3);
    throw new ConfigOverrideUnknownError(key, nearest);
  }
  return { ...config, ...overrides };
}

const ropeTypes = ['default', 'linear', 'llama3'] as const;

/** `rope_parameters`, or the older `rope_scaling` and `rope_theta`. Where both forms are there, neither may be ignored in silence. */
function ropeOf(config: z.output<typeof RawTextConfig>, where: string): RopeConfig {
  const { rope_parameters: current, rope_scaling: older, rope_theta: olderTheta } = config;
  const theta = current?.rope_theta ?? older?.rope_theta ?? olderTheta ?? 500_000;
  if (olderTheta !== undefined && olderTheta !== theta) {
    throw new ConfigContradictionError(`rope_theta is ${olderTheta}, but rope_parameters.rope_theta is ${theta}.`, where);
  }
  const rope = ropeFrom(current ?? older ?? {}, current ? 'rope_parameters' : 'rope_scaling', theta, where);
  const other = current && older ? ropeFrom(older, 'rope_scaling', older.rope_theta ?? theta, where) : rope;
  if (JSON.stringify(other) !== JSON.stringify(rope)) {
    const [a, b] = [JSON.stringify(rope), JSON.stringify(other)];
    throw new ConfigContradictionError(`rope_parameters gives ${a}, but rope_scaling gives ${b}.`, where);
  }
  return rope;
}

function ropeFrom(given: z.output<typeof RopeParameters>, key: string, theta: number, where: string): RopeConfig {
  const type = given.rope_type ?? given.type ?? 'default';
  const need = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor' | 'original_max_position_embeddings'): number => {
    const value = given[name];
    if (value === undefined) throw new ConfigInvalidError(`Rope type "${type}" needs "${name}".`, `${where}, key "${key}.${name}"`);
    return value;
  };
  switch (type) {
    case 'default':
      return { type, theta };
    case 'linear':
      return { type, theta, factor: need('factor') };
    case 'llama3':
      return {
        type,
        theta,
        factor: need('factor'),
        lowFreqFactor: need('low_freq_factor'),
        highFreqFactor: need('high_freq_factor'),
        originalMaxPositionEmbeddings: need('original_max_position_embeddings'),
      };
    default:
      throw new RopeTypeError(type, `${where}, key "${key}.rope_type"`, ropeTypes);
  }
}

function layersOf(config: z.output<typeof RawTextConfig>, where: string): LayerConfig[] {
  const count = config.num_hidden_layers;
  const step = config.interleave_moe_layer_step;
  const moe = config.moe_layers ? new Set(config.moe_layers) : null;
  for (const index of moe ?? []) {
    if (index >= count) throw new ConfigContradictionError(`moe_layers names layer ${index}, but num_hidden_layers is ${count}.`, where);
  }
  const rope = config.no_rope_layers?.length ? config.no_rope_layers : null;
  if (rope !== null && rope.length !== count) {
    throw new ConfigContradictionError(`no_rope_layers has ${rope.length} entries, but num_hidden_layers is ${count}.`, where);
  }
  const layers = Array.from({ length: count }, (_, i) => ({
    rope: rope === null ? (i + 1) % config.no_rope_layer_interval !== 0 : rope[i] === 1,
    moe: moe === null ? step > 0 && (i + 1) % step === 0 : moe.has(i),
  }));
  checkLayerTypes(config.layer_types ?? null, layers, config.attention_chunk_size, where);
  return layers;
}

/** A layer with rotation attends within its chunk, where there are chunks; one without attends to all. */
function checkLayerTypes(types: readonly string[] | null, layers: readonly LayerConfig[], chunkSize: number | null, where: string): void {
  if (types === null) return;
  if (types.length !== layers.length)
    throw new ConfigContradictionError(`layer_types has ${types.length} entries for ${layers.length} layers.`, where);
  for (const [i, { rope }] of layers.entries()) {
    const expected = rope && chunkSize !== null ? 'chunked_attention' : 'full_attention';
    if (types[i] !== expected) {
      const chunks = chunkSize === null ? 'attention_chunk_size, which is null, makes' : 'no_rope_layers makes';
      throw new ConfigContradictionError(`layer_types[${i}] is "${types[i]}", but ${chunks} it "${expected}".`, where);
    }
  }
}
