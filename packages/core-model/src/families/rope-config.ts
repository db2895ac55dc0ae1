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
  factor: optionalFactor,
  low_freq_factor: optionalFactor,
  high_freq_factor: optionalFactor,
  original_max_position_embeddings: positive.nullish(),
  attention_factor: optionalFactor,
  beta_fast: optionalFactor,
  beta_slow: optionalFactor,
  mscale: optionalFactor,
  mscale_all_dim: optionalFactor,
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
  rope_theta: z.number().positive().exactOptional(),
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

/**
 * Reads `rope_parameters`, or the older `rope_scaling` and `rope_theta`. A config that has both forms must say the same in both.
 */
export function ropesOf(
  { ropeParameters, ropeScaling: older, ropeTheta: olderTheta, ropeLocalBaseFreq: localTheta, ...rest }: CamelKeys<typeof ropeKeys>,
  sizes: Pick<Surroundings, 'headDim' | 'maxPositionEmbeddings'>,
  defaultTheta: number,
  context: z.RefinementCtx,
): Ropes {
  const { sliding_attention: sliding, full_attention: full, ...same } = ropeParameters ?? {};
  const current = ropeParameters && (full ?? same);
  const theta = current?.rope_theta ?? older?.rope_theta ?? olderTheta ?? defaultTheta;
  if (olderTheta !== undefined && olderTheta !== theta)
    contradiction(context, `rope_theta is ${olderTheta}, but rope_parameters.rope_theta is ${theta}`);
  const read = (given: RopeParameters, key: string): RopeConfig =>
    ropeFrom({ rope_theta: theta, ...given }, key, { ...rest, ...sizes }, context);
  const rope = read(current ?? older ?? {}, current ? 'rope_parameters' : 'rope_scaling');
  const [a, b] = [JSON.stringify(rope), JSON.stringify(current && older ? read(older, 'rope_scaling') : rope)];
  if (a !== b) contradiction(context, `rope_parameters gives ${a}, but rope_scaling gives ${b}`);
  const local = sliding ?? (localTheta === undefined ? null : { rope_theta: localTheta });
  const { llama_4_scaling_beta: beta, original_max_position_embeddings: period } = current ?? {};
  return {
    rope,
    localRope: local && read(local, 'rope_parameters'),
    queryScaling: beta ? { beta, period: period ?? sizes.maxPositionEmbeddings } : null,
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
  const partialRotaryFactor = given.partial_rotary_factor ?? around.partialRotaryFactor ?? 1;
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
