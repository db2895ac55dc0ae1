import { z } from 'zod';
import { RopeTypeError } from '../errors.ts';
import type { RopeConfig } from '../layers/rotary.ts';
import { type CamelKeys, camel, contradiction, invalid, positive } from './config-keys.ts';

/** A positive number that may be left out. */
const optionalFactor = z.number().positive().nullish();
const divisors = z.array(z.number().positive()).exactOptional();

const RopeParameters = z.looseObject({
  rope_type: z.string().exactOptional(),
  /** The older name of `rope_type`. */
  type: z.string().exactOptional(),
  rope_theta: z.number().positive().exactOptional(),
  partial_rotary_factor: z.number().positive().max(1).exactOptional(),
  /** Of a GGUF: the elements of a head that are rotated. */
  rotary_dim: positive.exactOptional(),
  factor: optionalFactor,
  low_freq_factor: optionalFactor,
  high_freq_factor: optionalFactor,
  original_max_position_embeddings: positive.nullish(),
  attention_factor: optionalFactor,
  beta_fast: optionalFactor,
  beta_slow: optionalFactor,
  mscale: z.number().nonnegative().nullish(),
  mscale_all_dim: z.number().nonnegative().nullish(),
  truncate: z.boolean().nullish(),
  short_factor: divisors,
  long_factor: divisors,
  /** Of a GGUF: a divisor for each frequency. */
  factors: divisors,
  /** Of Ministral 3: queries grow with the logarithm of their position. */
  llama_4_scaling_beta: z.number().nonnegative().nullish(),
});
type RopeParameters = z.output<typeof RopeParameters>;

/** The form that transformers 5 writes where each type of layer has its own rope. */
const RopeByLayerType = RopeParameters.extend({ full_attention: RopeParameters.nullish(), sliding_attention: RopeParameters.nullish() });

/** Keys of config.json that say how positions become rotations, as published and as transformers 5 writes them. */
export const ropeKeys = {
  rope_parameters: RopeByLayerType.nullish(),
  rope_theta: z.number().positive().nullish(),
  rope_scaling: RopeParameters.nullish(),
  /** Theta of sliding layers, where it differs. */
  rope_local_base_freq: z.number().positive().exactOptional(),
  partial_rotary_factor: z.number().positive().max(1).exactOptional(),
  original_max_position_embeddings: positive.nullish(),
};

/** Keys that a rope's parameters fall back on. */
interface Surroundings extends Pick<CamelKeys<typeof ropeKeys>, 'partialRotaryFactor' | 'originalMaxPositionEmbeddings'> {
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
}

export interface Ropes {
  readonly rope: RopeConfig;
  /** Of sliding layers; null: `rope`. */
  readonly localRope: RopeConfig | null;
  /** Multiplies queries by `1 + beta * log(1 + floor(position / period))`; null: no scaling. */
  readonly queryScaling: { readonly beta: number; readonly period: number } | null;
}

/** Properties of a family's ropes. The published classes ignore the keys that their family lacks; a config with one that matters is refused. */
export interface RopeRules {
  /** Default: 10000. */
  readonly ropeTheta?: number;
  /** Parameters of a config that has none. */
  readonly rope?: z.input<typeof RopeParameters>;
  /** Sliding layers have a rope of their own. */
  readonly byLayerType?: boolean;
  /** A part of each head may be rotated. */
  readonly partial?: boolean;
  /** Queries may grow with their position. */
  readonly scalesQueries?: boolean;
}

/**
 * Reads `rope_parameters`, or the older `rope_scaling` and `rope_theta`. A config that has both forms must say the same in both.
 */
export function ropesOf(
  { ropeParameters, ropeScaling: older, ropeTheta: olderTheta, ropeLocalBaseFreq: localTheta, ...rest }: CamelKeys<typeof ropeKeys>,
  sizes: Pick<Surroundings, 'headDim' | 'maxPositionEmbeddings'>,
  { ropeTheta: defaultTheta = 10_000, rope: defaultRope, byLayerType = false, partial = false, scalesQueries = false }: RopeRules,
  context: z.RefinementCtx,
): Ropes {
  const { sliding_attention: sliding, full_attention: full, ...same } = ropeParameters ?? {};
  const isNested = Boolean(full ?? sliding);
  if (isNested && !byLayerType) invalid(context, 'All layers have the same rope', ['rope_parameters']);
  if (byLayerType && !isNested && Object.keys(same).length > 0)
    invalid(context, 'Give the parameters of "full_attention" and of "sliding_attention"', ['rope_parameters']);
  if (byLayerType && older?.type !== undefined && older.rope_type === undefined)
    invalid(context, `Rope type "${older.type}" must be given as "rope_type"`, ['rope_scaling', 'type']);
  const flat = [same, Object.keys(older ?? {}).length > 0 ? undefined : defaultRope].find((rope) => Object.keys(rope ?? {}).length > 0);
  const current = isNested ? (full ?? {}) : flat && RopeParameters.parse(flat);
  const theta = current?.rope_theta ?? older?.rope_theta ?? olderTheta ?? defaultTheta;
  if ((olderTheta ?? theta) !== theta) contradiction(context, `rope_theta is ${olderTheta}, but rope_parameters.rope_theta is ${theta}`);
  const read = (given: RopeParameters, key: string): RopeConfig => {
    const factor = given.partial_rotary_factor ?? rest.partialRotaryFactor ?? 1;
    const place = given.partial_rotary_factor === undefined ? [] : [key];
    if (factor !== 1 && !partial)
      invalid(context, `Only all of a head is rotated, not ${factor} of it`, [...place, 'partial_rotary_factor']);
    return ropeFrom({ rope_theta: theta, ...given }, key, { ...rest, ...sizes }, context);
  };
  const rope = read(current ?? older ?? {}, current ? 'rope_parameters' : 'rope_scaling');
  const [a, b] = [JSON.stringify(rope), JSON.stringify(current && older ? read(older, 'rope_scaling') : rope)];
  if (a !== b) contradiction(context, `rope_parameters gives ${a}, but rope_scaling gives ${b}`);
  const local = byLayerType ? (sliding ?? { rope_theta: localTheta ?? 10_000 }) : null;
  const { llama_4_scaling_beta: beta, original_max_position_embeddings: period } = current ?? older ?? {};
  if (beta && !scalesQueries) invalid(context, 'Queries do not grow with their position', ['rope_parameters', 'llama_4_scaling_beta']);
  return {
    rope,
    localRope: local && read(local, 'rope_parameters'),
    queryScaling: beta ? { beta, period: rest.originalMaxPositionEmbeddings ?? period ?? sizes.maxPositionEmbeddings } : null,
  };
}

/** The numbers that each type must have. */
const needed = {
  default: [],
  linear: ['factor'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'],
  yarn: [],
  longrope: ['short_factor', 'long_factor'],
  factors: ['factors'],
} as const satisfies Record<string, readonly (keyof RopeParameters & string)[]>;

/** All types but `factors`, which only a GGUF has. */
const published = Object.keys(needed).filter((type) => type !== 'factors');

function ropeFrom(given: RopeParameters, key: string, { headDim, ...around }: Surroundings, context: z.RefinementCtx): RopeConfig {
  const named = given.rope_type ?? given.type ?? 'default';
  const type = ['su', 'yarn'].includes(named) && given.short_factor ? 'longrope' : named; // its names in Phi-3's first checkpoints
  if (!Object.hasOwn(needed, type)) {
    const message = `Rope type "${type}" is unknown; known types are ${published.join(', ')}`;
    context.addIssue({ code: 'custom', message, path: [key, 'rope_type'], params: { error: RopeTypeError } });
    return { type: 'default', theta: 1 };
  }
  const values = needed[type as keyof typeof needed].map((name) => {
    if ((given[name] ?? null) === null) invalid(context, `Rope type "${type}" needs "${name}"`, [key, name]);
    return [camel(name), given[name]];
  });
  const { rotary_dim: rotaryDim = null } = given;
  const partialRotaryFactor = rotaryDim === null ? (given.partial_rotary_factor ?? around.partialRotaryFactor ?? 1) : rotaryDim / headDim;
  const original = around.originalMaxPositionEmbeddings ?? given.original_max_position_embeddings ?? around.maxPositionEmbeddings;
  const factor = given.factor ?? around.maxPositionEmbeddings / original;
  const rope = {
    type,
    theta: given.rope_theta,
    ...(partialRotaryFactor !== 1 && { partialRotaryFactor }),
    ...Object.fromEntries(values),
    ...(type === 'yarn' && yarnValues(given, factor, original)),
    ...(type === 'longrope' && {
      originalMaxPositionEmbeddings: original,
      attentionFactor: given.attention_factor ?? (factor > 1 ? Math.sqrt(1 + Math.log(factor) / Math.log(original)) : 1),
    }),
  } as RopeConfig;
  const frequencies = Math.floor(headDim * partialRotaryFactor) / 2;
  for (const name of ['short_factor', 'long_factor', 'factors'] as const)
    if (Object.hasOwn(rope, camel(name)) && given[name] && given[name].length !== frequencies)
      contradiction(context, `${name} has ${given[name].length} numbers for ${frequencies} frequencies`, [key, name]);
  return rope;
}

/** YaRN's numbers with its published defaults. */
function yarnValues(given: RopeParameters, factor: number, originalMaxPositionEmbeddings: number) {
  const scale = (by: number): number => (factor > 1 ? 0.1 * by * Math.log(factor) + 1 : 1);
  const { mscale, mscale_all_dim: mscaleAllDim } = given;
  return {
    factor,
    originalMaxPositionEmbeddings,
    betaFast: given.beta_fast ?? 32,
    betaSlow: given.beta_slow ?? 1,
    truncate: given.truncate ?? true,
    attentionFactor: given.attention_factor ?? (mscale && mscaleAllDim ? scale(mscale) / scale(mscaleAllDim) : scale(1)),
  };
}
