import { z } from 'zod';
import { camelKeys, contradiction, layerCount, positive } from './config-keys.ts';
import type { RawConfig } from './family.ts';
import { type RopeRules, type Ropes, ropeKeys, ropesOf } from './rope-config.ts';

const tokenIds = z
  .union([z.int(), z.array(z.int()), z.null()])
  .default(null)
  .transform((ids) => (ids === null ? [] : [ids].flat()));

/** Keys that every decoder's config.json has, as published and as transformers 5 writes it. */
const sharedKeys = {
  architectures: z.array(z.string()).nullish(),
  vocab_size: positive,
  hidden_size: positive,
  num_hidden_layers: layerCount,
  num_attention_heads: positive,
  num_key_value_heads: positive.nullish(),
  head_dim: positive.nullish(),
  max_position_embeddings: positive,
  rms_norm_eps: z.number().positive().default(1e-6),
  tie_word_embeddings: z.boolean().default(false),
  layer_types: z.array(z.string()).nullish(),
  is_causal: z.literal(true, 'Attention to later tokens is not computed').nullish(),
  bos_token_id: tokenIds,
  eos_token_id: tokenIds,
};

/** The config of every decoder, after the shared rules are applied. */
export interface DecoderConfig extends Ropes {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
  readonly rmsNormEps: number;
  readonly tieWordEmbeddings: boolean;
  /** As in config.json; each family defines their meaning. */
  readonly layerTypes: readonly string[] | null;
  readonly bosTokenIds: readonly number[];
  readonly eosTokenIds: readonly number[];
}

/** The values of keys that a config leaves out, and the rope keys that the family has. */
export interface DecoderDefaults extends RopeRules {
  readonly rmsNormEps?: number;
}

/**
 * The schema of a decoder's config.json: the shared keys and the family's. Its output is a `DecoderConfig` and the family's keys in camelCase. A
 * `transform` after it applies the family's rules. Other keys are ignored, because checkpoints carry many.
 */
export function decoderConfig<Own extends z.ZodRawShape>(own: Own, { rmsNormEps = 1e-6, ...ropeRules }: DecoderDefaults = {}) {
  const rms_norm_eps = sharedKeys.rms_norm_eps.unwrap().default(rmsNormEps);
  return z.looseObject({ ...sharedKeys, ...ropeKeys, rms_norm_eps, ...own }).transform((parsed, context) => {
    const {
      architectures: _,
      isCausal: _causal,
      bosTokenId: bosTokenIds,
      eosTokenId: eosTokenIds,
      ...rest
    } = camelKeys(sharedKeys, parsed);
    const { hiddenSize, numHiddenLayers, numAttentionHeads: heads } = rest;
    const kvHeads = rest.numKeyValueHeads ?? heads;
    const headDim = rest.headDim ?? hiddenSize / heads;
    if (heads % kvHeads !== 0) contradiction(context, `num_attention_heads ${heads} is not a multiple of num_key_value_heads ${kvHeads}`);
    if (!Number.isInteger(headDim) || headDim % 2 !== 0) {
      const sizes = `hidden_size ${hiddenSize}, ${heads} heads`;
      contradiction(context, `head_dim is ${headDim}: rotary embedding needs an even whole number (${sizes})`);
    }
    const layers = rest.layerTypes?.length ?? numHiddenLayers;
    if (layers !== numHiddenLayers) contradiction(context, `layer_types has ${layers} entries for ${numHiddenLayers} layers`);
    const ropes = ropesOf(camelKeys(ropeKeys, parsed), { ...rest, headDim }, ropeRules, context);
    const layerTypes = rest.layerTypes ?? null;
    const config: DecoderConfig = { ...rest, numKeyValueHeads: kvHeads, headDim, ...ropes, layerTypes, bosTokenIds, eosTokenIds };
    return { ...config, ...camelKeys(own, parsed) };
  });
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

/** A family's `small` where it has one architecture. @param more keys that are added or replaced. */
export function smallOf(architecture: string, more: RawConfig = {}): (layers?: number) => Readonly<Record<string, RawConfig>> {
  return (layers = 4) => ({ [architecture]: smallDecoder(layers, { architectures: [architecture], ...more }) });
}
