import { z } from 'zod';
import { camelKeys, contradiction, invalid, layerCount, positive } from './config-keys.ts';
import { decoderConfig } from './config-schema.ts';

/** More than any tile has. A config with more would fill the memory with tables. */
const maxPatches = 65_536;

const visionKeys = {
  hidden_size: positive,
  /** Of an encoder layer's MLP, and the width that the adapter takes. */
  intermediate_size: positive,
  num_hidden_layers: layerCount,
  num_attention_heads: positive,
  num_channels: z.literal(3).default(3),
  /** Pixels of a tile's side. */
  image_size: positive,
  /** Pixels of a patch's side. */
  patch_size: positive,
  hidden_act: z.literal('gelu').default('gelu'),
  pixel_shuffle_ratio: z.number().positive().max(1).default(0.5),
  projector_input_dim: positive,
  projector_output_dim: positive,
  vision_output_dim: positive,
  multi_modal_projector_bias: z.literal(false).default(false),
  rope_parameters: z
    .looseObject({ rope_type: z.literal('default').default('default'), rope_theta: z.number().positive().exactOptional() })
    .nullish(),
  rope_theta: z.number().positive().exactOptional(),
};

/** `vision_config`: a Llama 4 vision tower and its projector. */
const VisionConfig = z.looseObject(visionKeys).transform((raw, context) => {
  const {
    ropeParameters,
    ropeTheta: olderTheta,
    pixelShuffleRatio: ratio,
    projectorOutputDim: outputSize,
    ...all
  } = camelKeys(visionKeys, raw);
  const { hiddenAct: _act, multiModalProjectorBias: _bias, projectorInputDim, visionOutputDim, ...config } = all;
  const { hiddenSize, numAttentionHeads: heads, imageSize, patchSize, intermediateSize } = config;
  const [headDim, patchesPerSide, shuffleFactor] = [hiddenSize / heads, imageSize / patchSize, 1 / ratio];
  const refuse = (what: string): void => contradiction(context, what);
  if (headDim % 4 !== 0)
    refuse(`A head is ${headDim} wide: rotation by row and column needs a multiple of 4 (hidden_size ${hiddenSize}, ${heads} heads)`);
  if (!Number.isInteger(patchesPerSide)) refuse(`image_size ${imageSize} is not a multiple of patch_size ${patchSize}`);
  if (patchesPerSide ** 2 > maxPatches)
    invalid(context, `A tile has ${patchesPerSide ** 2} patches; at most ${maxPatches} are computed`, []);
  if (!Number.isInteger(shuffleFactor) || patchesPerSide % shuffleFactor !== 0)
    refuse(`pixel_shuffle_ratio ${ratio} does not divide a tile's ${patchesPerSide} x ${patchesPerSide} patches`);
  if (intermediateSize !== hiddenSize * shuffleFactor ** 2)
    refuse(`intermediate_size is ${intermediateSize}, but the pixel shuffle gives ${hiddenSize * shuffleFactor ** 2}`);
  for (const [key, size] of [
    ['projector_input_dim', projectorInputDim],
    ['vision_output_dim', visionOutputDim],
  ] as const)
    if (size !== outputSize) refuse(`${key} is ${size}, but projector_output_dim is ${outputSize}`);
  const ropeTheta = ropeParameters?.rope_theta ?? olderTheta ?? 10_000;
  if ((olderTheta ?? ropeTheta) !== ropeTheta) refuse(`rope_theta is ${olderTheta}, but rope_parameters.rope_theta is ${ropeTheta}`);
  return {
    ...config,
    headDim,
    /** Patches of a tile's side. */
    patchesPerSide,
    /** Patches of a tile's side that become one token: 2 where `pixel_shuffle_ratio` is 0.5. */
    shuffleFactor,
    tokensPerTile: (patchesPerSide / shuffleFactor) ** 2,
    /** Width of the adapter's output. */
    outputSize,
    ropeTheta,
  };
});

/** The kind of a decoder layer. */
export interface LayerConfig {
  readonly rope: boolean;
  readonly moe: boolean;
}

/**
 * A Llama 4's config.json. `moe_layers` wins over `interleave_moe_layer_step`, and `no_rope_layers` alone decides which layers rotate and attend within
 * their chunk. The default of a key that no weight shows is the value of the published configuration class.
 */
export const Llama4Config = decoderConfig(
  {
    /** Of an expert and of the shared expert. */
    intermediate_size: positive,
    /** Of a dense layer. */
    intermediate_size_mlp: positive.exactOptional(),
    hidden_act: z.literal('silu').default('silu'),
    rms_norm_eps: z.number().positive().default(1e-5),
    attention_bias: z.boolean().default(false),
    /** Null: full attention on rope layers too. */
    attention_chunk_size: positive.nullable().default(8192),
    moe_layers: z.array(z.int().nonnegative()).nullish(),
    interleave_moe_layer_step: z.int().nonnegative().default(1),
    no_rope_layers: z.array(z.union([z.literal(0), z.literal(1)])).nullish(),
    no_rope_layer_interval: positive.default(4),
    use_qk_norm: z.boolean().default(true),
    /** Some published checkpoints have the number 4 here, which counts as true. */
    attn_temperature_tuning: z.union([z.boolean(), z.number().transform((n) => n !== 0)]).default(true),
    floor_scale: z.number().positive().default(8192),
    attn_scale: z.number().default(0.1),
    num_local_experts: positive.default(16),
    num_experts_per_tok: positive.default(1),
    vision_config: VisionConfig.nullish(),
    image_token_index: z.int().nonnegative().exactOptional(),
    /** The newer name of `image_token_index`. */
    image_token_id: z.int().nonnegative().exactOptional(),
  },
  { ropeTheta: 500_000 },
).transform((all, context) => {
  const { moeLayers, interleaveMoeLayerStep: step, noRopeLayers, noRopeLayerInterval: interval, ...rest } = all;
  const { visionConfig, imageTokenIndex, imageTokenId, hiddenAct: _, ...config } = rest;
  const count = config.numHiddenLayers;
  if (config.numExpertsPerTok > config.numLocalExperts) {
    const experts = `num_experts_per_tok ${config.numExpertsPerTok} is more than num_local_experts ${config.numLocalExperts}`;
    contradiction(context, experts);
  }
  const outside = moeLayers?.find((layer) => layer >= count);
  if (outside !== undefined) contradiction(context, `moe_layers names layer ${outside}, but num_hidden_layers is ${count}`);
  const rope = noRopeLayers?.length ? noRopeLayers : null; // an empty list counts as missing
  if (rope !== null && rope.length !== count)
    contradiction(context, `no_rope_layers has ${rope.length} entries, but num_hidden_layers is ${count}`);
  const layers = Array.from(
    { length: count },
    (_, i): LayerConfig => ({
      rope: rope === null ? (i + 1) % interval !== 0 : rope[i] === 1,
      moe: moeLayers ? moeLayers.includes(i) : step > 0 && (i + 1) % step === 0,
    }),
  );
  checkLayerTypes(config.layerTypes, layers, config.attentionChunkSize, context);
  const image = imageTokenIndex ?? imageTokenId;
  if (visionConfig && image === undefined) invalid(context, 'A model with images needs their placeholder token', ['image_token_index']);
  if (visionConfig && imageTokenId !== undefined && imageTokenId !== image)
    contradiction(context, `image_token_index is ${image}, but image_token_id is ${imageTokenId}`);
  return {
    ...config,
    /** Of a dense layer. */
    intermediateSizeMlp: config.intermediateSizeMlp ?? config.intermediateSize,
    layers,
    /** Null for text alone: nothing is built or loaded for images. */
    vision: visionConfig ? { ...visionConfig, imageTokenIndex: image ?? 0 } : null,
  };
});

export type Llama4Config = z.output<typeof Llama4Config>;
export type Llama4VisionConfig = NonNullable<Llama4Config['vision']>;

/** A layer with rotation attends within its chunk, if the model has chunks; other layers attend to all tokens. */
function checkLayerTypes(
  types: readonly string[] | null,
  layers: readonly LayerConfig[],
  chunkSize: number | null,
  context: z.RefinementCtx,
): void {
  const expected = layers.map(({ rope }) => (rope && chunkSize !== null ? 'chunked_attention' : 'full_attention'));
  const i = types?.findIndex((type, layer) => type !== expected[layer]) ?? -1;
  if (types === null || i < 0) return;
  const chunks = chunkSize === null ? 'attention_chunk_size, which is null, makes' : 'no_rope_layers makes';
  contradiction(context, `layer_types[${i}] is "${types[i]}", but ${chunks} it "${expected[i]}"`);
}
