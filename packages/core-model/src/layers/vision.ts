import { Buffer, Module, ModuleList, ops, Parameter, type Region, type Tensor } from '@graft/graph';
import type { ModelContext } from '../context.ts';
import type { Llama4VisionConfig } from '../families/llama4-config.ts';
import { Linear } from './linear.ts';
import { LayerNorm } from './norm.ts';
import { inverseFrequencies } from './rotary.ts';

/** A convolution with its kernel as large as its stride, computed as a product: a row holds a patch's pixels. vLLM: `Llama4UnfoldConvolution`. */
export class UnfoldConvolution extends Module {
  readonly linear: Linear;
  readonly patchesPerSide: number;
  readonly patchSize: number;
  readonly numChannels: number;

  constructor({ build }: ModelContext, { numChannels, patchSize, patchesPerSide, hiddenSize }: Llama4VisionConfig) {
    super();
    this.linear = build(Linear, numChannels * patchSize ** 2, hiddenSize);
    this.patchesPerSide = patchesPerSide;
    this.patchSize = patchSize;
    this.numChannels = numChannels;
  }

  /** `[tiles, channels, side, side]` -> `[tiles, patches, hidden]`, patches row by row. */
  forward(pixelValues: Tensor): Tensor {
    const { patchesPerSide: side, patchSize: size, numChannels } = this;
    const tiles = pixelValues.dim(0);
    const apart = pixelValues.reshape(tiles, numChannels, side, size, side, size);
    const patches = apart.permute(0, 2, 4, 1, 3, 5); // [tiles, row, column, channels, size, size]
    return this.linear.forward(patches.reshape(tiles, side * side, numChannels * size * size));
  }
}

/**
 * Rotates by the place on the tile: the first half of a head's pairs by the column, the second by the row, both counted from 1. The class token is last
 * and is not rotated. Pairs are neighbours. vLLM: `Llama4VisionRotaryEmbedding`.
 */
export class VisionRotaryEmbedding extends Module {
  readonly numHeads: number;
  readonly headDim: number;
  /** `[patches + 1, headDim / 2]` */
  readonly cosCache: Buffer;
  readonly sinCache: Buffer;
  /** `[patches + 1]`: 0, 1, 2, ... */
  readonly places: Buffer;

  constructor({ numAttentionHeads, headDim, patchesPerSide, ropeTheta }: Llama4VisionConfig) {
    super();
    this.numHeads = numAttentionHeads;
    this.headDim = headDim;
    const angles = placeAngles(patchesPerSide, inverseFrequencies(headDim / 2, { type: 'default', theta: ropeTheta }));
    const tokens = patchesPerSide ** 2 + 1;
    this.cosCache = new Buffer([tokens, headDim / 2], angles.map(Math.cos));
    this.sinCache = new Buffer([tokens, headDim / 2], angles.map(Math.sin));
    this.places = new Buffer(
      [tokens],
      Float32Array.from({ length: tokens }, (_, i) => i),
    );
  }

  /** The place of each token. `[tiles, patches + 1, hidden]` -> `[tiles, patches + 1]`, int64. */
  placesOf(hiddenStates: Tensor): Tensor {
    const column = hiddenStates.slice(2, 0, 1).reshape(hiddenStates.dim(0), hiddenStates.dim(1));
    return column.zerosLike().add(this.places).cast('int64');
  }

  /** `x [tiles, patches + 1, heads * headDim]` -> the same, rotated. */
  forward(places: Tensor, x: Tensor): Tensor {
    const { numHeads, headDim } = this;
    return ops.rotaryEmbedding({ x, positions: places, cos: this.cosCache, sin: this.sinCache }, { numHeads, headDim });
  }
}

/** The angles of each patch's column, then of its row; zeros for the class token. */
function placeAngles(side: number, frequencies: Float32Array): Float32Array {
  const count = frequencies.length;
  const angles = new Float32Array((side ** 2 + 1) * 2 * count);
  for (let patch = 0; patch < side ** 2; patch++) {
    for (const [i, frequency] of frequencies.entries()) {
      angles[patch * 2 * count + i] = ((patch % side) + 1) * frequency;
      angles[patch * 2 * count + count + i] = (Math.floor(patch / side) + 1) * frequency;
    }
  }
  return angles;
}

/** Attention of every patch to every patch of its tile. vLLM: `Llama4VisionAttention`. */
export class Llama4VisionAttention extends Module {
  readonly qkv_proj: Linear;
  readonly o_proj: Linear;
  readonly rotary_emb: VisionRotaryEmbedding;
  readonly hiddenSize: number;

  constructor({ build }: ModelContext, { hiddenSize }: Llama4VisionConfig, rotary: VisionRotaryEmbedding) {
    super();
    this.hiddenSize = hiddenSize;
    this.qkv_proj = build(Linear, hiddenSize, 3 * hiddenSize, { bias: true });
    this.o_proj = build(Linear, hiddenSize, hiddenSize, { bias: true });
    this.rotary_emb = rotary;
  }

  forward(places: Tensor, hiddenStates: Tensor): Tensor {
    const { hiddenSize, rotary_emb: rotary } = this;
    const [q, k, value] = this.qkv_proj.forward(hiddenStates).split(hiddenSize, hiddenSize, hiddenSize);
    const [query, key] = [rotary.forward(places, q), rotary.forward(places, k)];
    const { numHeads, headDim } = rotary;
    return this.o_proj.forward(ops.selfAttention({ query, key, value }, { numHeads, headDim, scale: headDim ** -0.5 }));
  }
}

/** Two products with a GELU between them. The adapter has no bias and a second GELU at the end. vLLM: `Llama4VisionMLP`. */
export class Llama4VisionMlp extends Module {
  readonly fc1: Linear;
  readonly fc2: Linear;
  readonly outputActivation: boolean;

  constructor(
    { build }: ModelContext,
    sizes: readonly [input: number, inner: number, output: number],
    options: { bias: boolean; outputActivation: boolean },
  ) {
    super();
    this.fc1 = build(Linear, sizes[0], sizes[1], options);
    this.fc2 = build(Linear, sizes[1], sizes[2], options);
    this.outputActivation = options.outputActivation;
  }

  forward(x: Tensor): Tensor {
    const output = this.fc2.forward(this.fc1.forward(x).gelu());
    return this.outputActivation ? output.gelu() : output;
  }
}

/** vLLM: `Llama4VisionEncoderLayer`. */
export class Llama4VisionEncoderLayer extends Module {
  static override readonly region: Region = { name: 'vision-encoder-layer', inputs: ['places', 'hiddenStates'] };
  readonly self_attn: Llama4VisionAttention;
  readonly mlp: Llama4VisionMlp;
  readonly input_layernorm: LayerNorm;
  readonly post_attention_layernorm: LayerNorm;

  constructor(context: ModelContext, config: Llama4VisionConfig, rotary: VisionRotaryEmbedding) {
    super();
    const { build } = context;
    const { hiddenSize, intermediateSize } = config;
    this.self_attn = build(Llama4VisionAttention, context, config, rotary);
    this.mlp = build(Llama4VisionMlp, context, [hiddenSize, intermediateSize, hiddenSize], { bias: true, outputActivation: false });
    this.input_layernorm = build(LayerNorm, hiddenSize);
    this.post_attention_layernorm = build(LayerNorm, hiddenSize);
  }

  /** `places [tiles, tokens]` (int64), `hiddenStates [tiles, tokens, hidden]` -> as the latter. */
  forward(places: Tensor, hiddenStates: Tensor): Tensor {
    const attended = hiddenStates.add(this.self_attn.forward(places, this.input_layernorm.forward(hiddenStates)));
    return attended.add(this.mlp.forward(this.post_attention_layernorm.forward(attended)));
  }
}

/** vLLM: `Llama4VisionEncoder`. */
export class Llama4VisionEncoder extends Module {
  readonly layers: ModuleList<Llama4VisionEncoderLayer>;

  constructor(context: ModelContext, config: Llama4VisionConfig, rotary: VisionRotaryEmbedding) {
    super();
    this.layers = new ModuleList(
      Array.from({ length: config.numHiddenLayers }, () => context.build(Llama4VisionEncoderLayer, context, config, rotary)),
    );
  }

  forward(places: Tensor, hiddenStates: Tensor): Tensor {
    let states = hiddenStates;
    for (const layer of this.layers) states = layer.forward(places, states);
    return states;
  }
}

/** Merges each square of neighbouring patches into one token. vLLM: `Llama4VisionPixelShuffleMLP`. */
export class Llama4VisionPixelShuffleMlp extends Module {
  readonly mlp: Llama4VisionMlp;
  readonly patchesPerSide: number;
  readonly factor: number;

  constructor(context: ModelContext, { intermediateSize, outputSize, patchesPerSide, shuffleFactor }: Llama4VisionConfig) {
    super();
    this.mlp = context.build(Llama4VisionMlp, context, [intermediateSize, outputSize, outputSize], { bias: false, outputActivation: true });
    this.patchesPerSide = patchesPerSide;
    this.factor = shuffleFactor;
  }

  /** `[tiles, patches, hidden]` -> `[tiles, patches / factor ** 2, output]`. */
  forward(patches: Tensor): Tensor {
    return this.mlp.forward(pixelShuffle(patches, this.patchesPerSide, this.factor));
  }
}

/**
 * Each square of `factor` x `factor` patches becomes one row, with its patches row by row.
 * `[tiles, side ** 2, width]` -> `[tiles, (side / factor) ** 2, width * factor ** 2]`.
 */
export function pixelShuffle(patches: Tensor, side: number, factor: number): Tensor {
  const [tiles, width] = [patches.dim(0), patches.dim(2)];
  const squares = side / factor;
  const apart = patches.reshape(tiles, squares, factor, squares, width.times(factor));
  const together = apart.permute(0, 1, 3, 2, 4); // [tiles, row, column, row inside, columns inside * width]
  return together.reshape(tiles, squares * squares, width.times(factor * factor));
}

/** The vision tower, from tiles to tokens. vLLM: `Llama4VisionModel`. */
export class Llama4VisionModel extends Module {
  readonly patch_embedding: UnfoldConvolution;
  readonly class_embedding: Parameter;
  readonly positional_embedding_vlm: Parameter;
  readonly rotary_embedding: VisionRotaryEmbedding;
  readonly layernorm_pre: LayerNorm;
  readonly layernorm_post: LayerNorm;
  readonly model: Llama4VisionEncoder;
  readonly vision_adapter: Llama4VisionPixelShuffleMlp;
  readonly numPatches: number;

  constructor(context: ModelContext, config: Llama4VisionConfig) {
    super();
    const { build } = context;
    const { hiddenSize, patchesPerSide } = config;
    this.numPatches = patchesPerSide ** 2;
    this.patch_embedding = build(UnfoldConvolution, context, config);
    this.class_embedding = new Parameter([hiddenSize]);
    this.positional_embedding_vlm = new Parameter([this.numPatches + 1, hiddenSize]);
    this.rotary_embedding = build(VisionRotaryEmbedding, config);
    this.layernorm_pre = build(LayerNorm, hiddenSize);
    this.layernorm_post = build(LayerNorm, hiddenSize);
    this.model = build(Llama4VisionEncoder, context, config, this.rotary_embedding);
    this.vision_adapter = build(Llama4VisionPixelShuffleMlp, context, config);
  }

  /** `[tiles, channels, side, side]` -> `[tiles, tokens, output]`. */
  forward(pixelValues: Tensor): Tensor {
    const tokens = this.withClassToken(this.patch_embedding.forward(pixelValues));
    const placed = this.layernorm_pre.forward(tokens.add(this.positional_embedding_vlm));
    const states = this.layernorm_post.forward(this.model.forward(this.rotary_embedding.placesOf(placed), placed));
    return this.vision_adapter.forward(states.slice(1, 0, this.numPatches));
  }

  /** `[tiles, patches, hidden]` -> `[tiles, patches + 1, hidden]`. */
  private withClassToken(patches: Tensor): Tensor {
    return patches.concat(patches.slice(1, 0, 1).zerosLike().add(this.class_embedding), 1);
  }
}

/** From the tower's width to the language model's. vLLM: `Llama4MultiModalProjector`. */
export class Llama4MultiModalProjector extends Module {
  readonly linear_1: Linear;

  constructor({ build }: ModelContext, { outputSize }: Llama4VisionConfig, textHiddenSize: number) {
    super();
    this.linear_1 = build(Linear, outputSize, textHiddenSize);
  }

  /** `[tiles, tokens, output]` -> `[tiles, tokens, hidden]`. */
  forward(imageFeatures: Tensor): Tensor {
    return this.linear_1.forward(imageFeatures);
  }
}
