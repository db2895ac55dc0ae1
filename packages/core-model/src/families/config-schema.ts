import { z } from 'zod';
import { ConfigContradictionError, RopeTypeError } from '../errors.ts';
import type { RopeConfig } from '../layers/rotary.ts';
import type { RawConfig } from './family.ts';

export const positive = z.int().positive();

const tokenIds = z
  .union([z.int(), z.array(z.int()), z.null()])
  .default(null)
  .transform((ids) => (ids === null ? [] : [ids].flat()));

const RopeParameters = z.looseObject({
  rope_type: z.string().exactOptional(),
  /** Older name of `rope_type`. */
  type: z.string().exactOptional(),
  rope_theta: z.number().positive().exactOptional(),
  factor: z.number().positive().exactOptional(),
  low_freq_factor: z.number().positive().exactOptional(),
  high_freq_factor: z.number().positive().exactOptional(),
  original_max_position_embeddings: positive.exactOptional(),
});

/** Keys that every decoder's config.json has, as published and as transformers 5 writes it. */
const sharedKeys = {
  architectures: z.array(z.string()).nullish(),
  vocab_size: positive,
  hidden_size: positive,
  num_hidden_layers: positive,
  num_attention_heads: positive,
  num_key_value_heads: positive.nullish(),
  head_dim: positive.nullish(),
  max_position_embeddings: positive,
  rms_norm_eps: z.number().positive().default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  layer_types: z.array(z.string()).nullish(),
  rope_parameters: RopeParameters.nullish(),
  rope_theta: z.number().positive().exactOptional(),
  rope_scaling: RopeParameters.nullish(),
  bos_token_id: tokenIds,
  eos_token_id: tokenIds,
};

/** The config of every decoder, after the shared rules are applied. */
export interface DecoderConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  readonly tieWordEmbeddings: boolean;
  readonly rope: RopeConfig;
  /** As in config.json; each family defines their meaning. */
  readonly layerTypes: readonly string[] | null;
  readonly bosTokenIds: readonly number[];
  readonly eosTokenIds: readonly number[];
}

type Camel<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<Camel<Tail>>}` : S;
type CamelKeys<Keys extends z.ZodRawShape> = {
  readonly [K in keyof Keys & string as Camel<K>]: z.output<Keys[K]>;
};

const camel = (key: string): string => key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** The values of these keys, each name in camelCase. */
export function camelKeys<Keys extends z.ZodRawShape>(keys: Keys, values: RawConfig): CamelKeys<Keys> {
  return Object.fromEntries(Object.keys(keys).map((key) => [camel(key), values[key]])) as CamelKeys<Keys>;
}

/** The path of a key in config.json; empty for several keys at once. */
type Path = readonly (string | number)[];

/** Reports that two keys contradict each other, for a schema's `transform`, which goes on: the first problem is the one that is thrown. */
export function contradiction(context: z.RefinementCtx, message: string, path: Path = []): void {
  context.addIssue({ code: 'custom', message, path: [...path], params: { error: ConfigContradictionError } });
}

/** Reports a value that the schema allows and the family does not. */
export function invalid(context: z.RefinementCtx, message: string, path: Path): void {
  context.addIssue({ code: 'custom', message, path: [...path] });
}

/**
 * The schema of a decoder's config.json: the shared keys and the family's. Its output is a `DecoderConfig` and the family's keys in camelCase. A
 * `transform` after it applies the family's rules. Other keys are ignored, because checkpoints carry many.
 * @param ropeTheta the default.
 */
export function decoderConfig<Own extends z.ZodRawShape>(own: Own, { ropeTheta = 10_000 }: { ropeTheta?: number } = {}) {
  return z.looseObject({ ...sharedKeys, ...own }).transform((parsed, context) => {
    const shared = camelKeys(sharedKeys, parsed);
    const { architectures: _, bosTokenId: bosTokenIds, eosTokenId: eosTokenIds, ...others } = shared;
    const { ropeParameters: _current, ropeScaling: _older, ropeTheta: _theta, ...rest } = others;
    const { hiddenSize, numHiddenLayers, numAttentionHeads: heads } = rest;
    const kvHeads = rest.numKeyValueHeads ?? heads;
    const headDim = rest.headDim ?? hiddenSize / heads;
    if (heads % kvHeads !== 0) contradiction(context, `num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`);
    if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
      const sizes = `hidden_size ${hiddenSize}, ${heads} heads`;
      contradiction(context, `head_dim is ${headDim}: rotary embedding needs an even whole number (${sizes})`);
    }
    const layers = rest.layerTypes?.length ?? numHiddenLayers;
    const rope = ropeOf(shared, ropeTheta, context);
    if (layers !== numHiddenLayers) contradiction(context, `layer_types has ${layers} entries for ${numHiddenLayers} layers`);
    const layerTypes = rest.layerTypes ?? null;
    const config: DecoderConfig = { ...rest, numKeyValueHeads: kvHeads, headDim, rope, layerTypes, bosTokenIds, eosTokenIds };
    return { ...config, ...camelKeys(own, parsed) };
  });
}

/** `rope_parameters`, or the older `rope_scaling` and `rope_theta`. A config that has both forms must say the same in both. */
function ropeOf(
  { ropeParameters: current, ropeScaling: older, ropeTheta: olderTheta }: CamelKeys<typeof sharedKeys>,
  defaultTheta: number,
  context: z.RefinementCtx,
): RopeConfig {
  const theta = current?.rope_theta ?? older?.rope_theta ?? olderTheta ?? defaultTheta;
  if (olderTheta !== undefined && olderTheta !== theta)
    contradiction(context, `rope_theta is ${olderTheta}, but rope_parameters.rope_theta is ${theta}`);
  const rope = ropeFrom(current ?? older ?? {}, current ? 'rope_parameters' : 'rope_scaling', theta, context);
  const other = current && older ? ropeFrom(older, 'rope_scaling', older.rope_theta ?? theta, context) : rope;
  const [a, b] = [JSON.stringify(rope), JSON.stringify(other)];
  if (a !== b) contradiction(context, `rope_parameters gives ${a}, but rope_scaling gives ${b}`);
  return rope;
}

/** The keys that each rope type needs. */
const ropeKeys = {
  default: [],
  linear: ['factor'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'],
} as const satisfies Partial<Record<RopeConfig['type'], readonly (keyof typeof RopeParameters.shape)[]>>;

function ropeFrom(given: z.output<typeof RopeParameters>, key: string, theta: number, context: z.RefinementCtx): RopeConfig {
  const type = given.rope_type ?? given.type ?? 'default';
  if (!Object.hasOwn(ropeKeys, type)) {
    const message = `Rope type "${type}" is unknown; known types are ${Object.keys(ropeKeys).join(', ')}`;
    context.addIssue({ code: 'custom', message, path: [key, 'rope_type'], params: { error: RopeTypeError } });
    return { type: 'default', theta };
  }
  const values = ropeKeys[type as keyof typeof ropeKeys].map((name) => {
    if (given[name] === undefined) invalid(context, `Rope type "${type}" needs "${name}"`, [key, name]);
    return [camel(name), given[name]];
  });
  return { type, theta, ...Object.fromEntries(values) } as RopeConfig;
}

/** A small config.json of a decoder, for a family's `small`. @param more keys that are added or replaced. */
export function smallDecoder(layers: number, more: RawConfig = {}): RawConfig {
  return {
    vocab_size: 320,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: layers,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    max_position_embeddings: 256,
    rope_theta: 10_000,
    bos_token_id: 1,
    eos_token_id: 2,
    ...more,
  };
}
