import { z } from 'zod';
import { ConfigContradictionError, ConfigInvalidError } from './errors.ts';

const positive = z.int().positive();

/** Keys of `vision_config` that decide what a Llama 4 vision tower computes; others are carried by checkpoints and ignored. */
const RawVisionConfig = z.looseObject({
  hidden_size: positive,
  intermediate_size: positive,
  num_hidden_layers: positive,
  num_attention_heads: positive,
  num_channels: z.literal(3).default(3),
  image_size: positive,
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
});

const RawImageConfig = z.looseObject({
  vision_config: RawVisionConfig,
  image_token_index: z.int().nonnegative().exactOptional(),
  /** The newer name of `image_token_index`. */
  image_token_id: z.int().nonnegative().exactOptional(),
});

type RawVision = z.output<typeof RawVisionConfig>;

/** More than any tile has; a config that asks for more would fill the memory with tables. */
const maxPatches = 65_536;

/** A Llama 4 vision tower and its projector, after all rules are applied. */
export interface Llama4VisionConfig {
  hiddenSize: number;
  /** Of an encoder layer's MLP, and what the adapter takes: `hiddenSize * shuffleFactor ** 2`. */
  intermediateSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  headDim: number;
  numChannels: number;
  /** Pixels of a tile's side. */
  imageSize: number;
  /** Pixels of a patch's side. */
  patchSize: number;
  /** Patches of a tile's side. */
  patchesPerSide: number;
  /** Patches of a tile's side that become one token: 2 where `pixel_shuffle_ratio` is 0.5. */
  shuffleFactor: number;
  /** Tokens of a tile. */
  tokensPerTile: number;
  /** Width of the adapter's output. */
  outputSize: number;
  ropeTheta: number;
  /** The token whose places in a prompt the tiles' tokens take. */
  imageTokenIndex: number;
}

/**
 * The `vision_config` of a config.json and its image token, with the rules applied.
 * @returns null where there is no `vision_config`: a model for text alone.
 * @throws ConfigInvalidError, ConfigContradictionError, each naming the key.
 */
export function parseLlama4VisionConfig(raw: unknown, { where = 'config.json' }: { where?: string } = {}): Llama4VisionConfig | null {
  const outer = z.looseObject({ vision_config: z.unknown() }).partial().safeParse(raw);
  if (outer.success && (outer.data.vision_config ?? null) === null) return null;
  const parsed = RawImageConfig.safeParse(raw);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new ConfigInvalidError(`${issue?.message ?? 'It is not valid'}.`, `${where}, key "${issue?.path.join('.') ?? ''}"`);
  }
  const { vision_config: vision, image_token_index: index, image_token_id: id } = parsed.data;
  const imageTokenIndex = index ?? id;
  if (imageTokenIndex === undefined)
    throw new ConfigInvalidError('A model with images needs the token that stands for them.', `${where}, key "image_token_index"`);
  if (id !== undefined && id !== imageTokenIndex)
    throw new ConfigContradictionError(`image_token_index is ${imageTokenIndex}, but image_token_id is ${id}.`, where);
  return { ...sizesOf(vision, `${where}, key "vision_config"`), imageTokenIndex };
}

function sizesOf(vision: RawVision, where: string): Omit<Llama4VisionConfig, 'imageTokenIndex'> {
  const { hidden_size: hiddenSize, intermediate_size: intermediateSize, num_attention_heads: heads } = vision;
  const { image_size: imageSize, patch_size: patchSize, projector_output_dim: outputSize } = vision;
  const refuse = (what: string): never => {
    throw new ConfigContradictionError(what, where);
  };
  const headDim = hiddenSize / heads;
  if (headDim % 4 !== 0)
    refuse(`A head is ${headDim} wide: rotation by row and column needs a multiple of 4 (hidden_size ${hiddenSize}, ${heads} heads).`);
  const patchesPerSide = imageSize / patchSize;
  if (!Number.isInteger(patchesPerSide)) refuse(`image_size ${imageSize} is not a multiple of patch_size ${patchSize}.`);
  if (patchesPerSide ** 2 > maxPatches)
    throw new ConfigInvalidError(`A tile has ${patchesPerSide ** 2} patches; at most ${maxPatches} are computed.`, where);
  const shuffleFactor = 1 / vision.pixel_shuffle_ratio;
  if (!Number.isInteger(shuffleFactor) || patchesPerSide % shuffleFactor !== 0)
    refuse(`pixel_shuffle_ratio ${vision.pixel_shuffle_ratio} does not divide a tile's ${patchesPerSide} x ${patchesPerSide} patches.`);
  if (intermediateSize !== hiddenSize * shuffleFactor ** 2)
    refuse(`intermediate_size is ${intermediateSize}, but the pixel shuffle gives ${hiddenSize * shuffleFactor ** 2}.`);
  for (const key of ['projector_input_dim', 'vision_output_dim'] as const)
    if (vision[key] !== outputSize) refuse(`${key} is ${vision[key]}, but projector_output_dim is ${outputSize}.`);
  return {
    hiddenSize,
    intermediateSize,
    numHiddenLayers: vision.num_hidden_layers,
    numAttentionHeads: heads,
    headDim,
    numChannels: vision.num_channels,
    imageSize,
    patchSize,
    patchesPerSide,
    shuffleFactor,
    tokensPerTile: (patchesPerSide / shuffleFactor) ** 2,
    outputSize,
    ropeTheta: thetaOf(vision, where),
  };
}

/** `rope_parameters.rope_theta`, or the older `rope_theta`; 10000 where there is neither. */
function thetaOf({ rope_parameters: current, rope_theta: older }: RawVision, where: string): number {
  const theta = current?.rope_theta ?? older ?? 10_000;
  if (older !== undefined && older !== theta)
    throw new ConfigContradictionError(`rope_theta is ${older}, but rope_parameters.rope_theta is ${theta}.`, where);
  return theta;
}
