import { z } from 'zod';

export const positive = z.int().positive();

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

type Shared = z.output<z.ZodObject<typeof sharedKeys>>;

/** How positions become rotations. Frequencies are scaled for `linear` and `llama3` as the published checkpoints have it. */
export type RopeConfig =
  | { type: 'default'; theta: number }
  | { type: 'linear'; theta: number; factor: number }
  | { type: 'llama3'; theta: number; factor: number; lowFreqFactor: number; highFreqFactor: number; originalMaxPositionEmbeddings: number };

/** What every decoder's config says, after the shared rules are applied. */
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
  /** As the config has them; each family says what they mean. */
  readonly layerTypes: readonly string[] | null;
  readonly bosTokenIds: readonly number[];
  readonly eosTokenIds: readonly number[];
}

type Camel<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<Camel<Tail>>}` : S;
type CamelKeys<Keys extends z.ZodRawShape> = {
  readonly [K in keyof Keys & string as Camel<K>]: z.output<Keys[K]>;
};

const camel = (key: string): string => key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** The path in config.json that a rule speaks of; empty for several keys at once. */
type Path = readonly (string | number)[];

/** Two keys say different things. For a schema's `transform`, which goes on: the first problem is the one that is reported. */
export function contradiction(context: z.RefinementCtx, message: string, path: Path = []): void {
  context.addIssue({ code: 'custom', message, path: [...path], params: { kind: 'contradiction' } });
}

/** A key has a value that its schema allows and the family does not. */
export function invalid(context: z.RefinementCtx, message: string, path: Path): void {
  context.addIssue({ code: 'custom', message, path: [...path] });
}

/**
 * The schema of a decoder's config.json: the shared keys and a family's own. Its output has each of its own keys in camelCase, and `DecoderConfig`;
 * a `transform` after it applies the family's own rules. Other keys are ignored, as checkpoints carry many.
 * @param ropeTheta where the config has none.
 */
export function decoderConfig<Own extends z.ZodRawShape>(own: Own, { ropeTheta = 10_000 }: { ropeTheta?: number } = {}) {
  return z.looseObject({ ...sharedKeys, ...own }).transform((parsed, context) => {
    const raw = parsed as Shared & Record<string, unknown>;
    const heads = raw.num_attention_heads;
    const kvHeads = raw.num_key_value_heads ?? heads;
    const headDim = raw.head_dim ?? raw.hidden_size / heads;
    if (heads % kvHeads !== 0) contradiction(context, `num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}.`);
    if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
      const sizes = `hidden_size ${raw.hidden_size}, ${heads} heads`;
      contradiction(context, `head_dim is ${headDim}: rotary embedding needs an even whole number (${sizes}).`);
    }
    const config: DecoderConfig = {
      vocabSize: raw.vocab_size,
      hiddenSize: raw.hidden_size,
      numHiddenLayers: raw.num_hidden_layers,
      numAttentionHeads: heads,
      numKeyValueHeads: kvHeads,
      headDim,
      maxPositionEmbeddings: raw.max_position_embeddings,
      rmsNormEps: raw.rms_norm_eps,
      tieWordEmbeddings: raw.tie_word_embeddings,
      rope: ropeOf(raw, ropeTheta, context),
      layerTypes: raw.layer_types ?? null,
      bosTokenIds: raw.bos_token_id,
      eosTokenIds: raw.eos_token_id,
    };
    const layers = config.layerTypes?.length ?? raw.num_hidden_layers;
    if (layers !== raw.num_hidden_layers) contradiction(context, `layer_types has ${layers} entries for ${raw.num_hidden_layers} layers.`);
    const ownValues = Object.fromEntries(Object.keys(own).map((key) => [camel(key), raw[key]]));
    return { ...config, ...ownValues } as DecoderConfig & CamelKeys<Own>;
  });
}

/** `rope_parameters`, or the older `rope_scaling` and `rope_theta`. Where both forms are there, neither may be ignored in silence. */
function ropeOf(config: Shared, defaultTheta: number, context: z.RefinementCtx): RopeConfig {
  const { rope_parameters: current, rope_scaling: older, rope_theta: olderTheta } = config;
  const theta = current?.rope_theta ?? older?.rope_theta ?? olderTheta ?? defaultTheta;
  if (olderTheta !== undefined && olderTheta !== theta)
    contradiction(context, `rope_theta is ${olderTheta}, but rope_parameters.rope_theta is ${theta}.`);
  const rope = ropeFrom(current ?? older ?? {}, current ? 'rope_parameters' : 'rope_scaling', theta, context);
  const other = current && older ? ropeFrom(older, 'rope_scaling', older.rope_theta ?? theta, context) : rope;
  const [a, b] = [JSON.stringify(rope), JSON.stringify(other)];
  if (a !== b) contradiction(context, `rope_parameters gives ${a}, but rope_scaling gives ${b}.`);
  return rope;
}

export const ropeTypes = ['default', 'linear', 'llama3'] as const;

function ropeFrom(given: z.output<typeof RopeParameters>, key: string, theta: number, context: z.RefinementCtx): RopeConfig {
  const type = given.rope_type ?? given.type ?? 'default';
  const need = (name: 'factor' | 'low_freq_factor' | 'high_freq_factor' | 'original_max_position_embeddings'): number => {
    const value = given[name];
    if (value === undefined) invalid(context, `Rope type "${type}" needs "${name}".`, [key, name]);
    return value ?? 1;
  };
  switch (type) {
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
      if (type !== 'default') context.addIssue({ code: 'custom', message: type, path: [key, 'rope_type'], params: { kind: 'rope' } });
      return { type: 'default', theta };
  }
}
