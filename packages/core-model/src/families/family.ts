import type { CheckpointTensor } from '../weights/checkpoint.ts';
import type { WeightRules } from '../weights/rules.ts';

/** A config.json as parsed, or one made of a GGUF's metadata; not validated. */
export type RawConfig = Readonly<Record<string, unknown>>;

/** What the engine reads of any model's config. */
export interface ModelConfig {
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly numHiddenLayers: number;
  readonly maxPositionEmbeddings: number;
  readonly bosTokenIds: readonly number[];
  readonly eosTokenIds: readonly number[];
  readonly tieWordEmbeddings: boolean;
}

export interface ParseConfigOptions {
  /** For error messages: the file that the raw config comes from. */
  where?: string;
  /** Keys that replace those of the raw config. Of a multimodal model they reach `text_config`; `vision_config.KEY`, or an object, reaches the other. */
  overrides?: Readonly<Record<string, unknown>>;
  /** False: the model is served for text alone, as if it had no `vision_config`. */
  images?: boolean;
}

/** A GGUF as its family reads it. */
export interface GgufFile {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, unknown>;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
}

export interface GgufReading<Config extends ModelConfig = ModelConfig> {
  /** Values of `general.architecture`. */
  readonly architectures: readonly string[];
  /** The file's metadata as a config.json. @throws GgufUnsupportedError, CheckpointCorruptError */
  config(file: GgufFile): RawConfig;
  weights(config: Config): WeightRules;
}

/** What the engine reads of a vision tower. */
export interface ImageTower {
  readonly numChannels: number;
  /** Pixels of a tile's side. */
  readonly imageSize: number;
  readonly tokensPerTile: number;
  /** The token whose places in a prompt the tiles' tokens take. */
  readonly imageTokenIndex: number;
}

export interface FamilyImages<Config extends ModelConfig = ModelConfig> {
  /** Null where the config is for text alone. */
  tower(config: Config): ImageTower | null;
  /** The texts of special tokens: `image` is what a chat template puts for an image, `patch` what a row of the tower's output takes the place of. */
  readonly tokens: { readonly image: string; readonly patch: string };
  /** The tokens that stand in the prompt for one image, in the order of its tiles: row by row, then the whole image; of one tile, that alone. */
  layout(tiles: { rows: number; columns: number }, tokensPerTile: number): string[];
}

/** How a checkpoint of this family is read as a model of another one. */
export interface ReadAs {
  /** Why the answers are the same; for `explain` and the log. */
  readonly why: string;
  /** The family's config.json as the other family's. @throws GraftError when this config is beyond the other family. */
  config(raw: RawConfig, where?: string): RawConfig;
  /** From this family's tensors to the other's parameters. @param config the other family's. */
  weights(config: never, kind: string): WeightRules;
}

/** All that the engine must know of a family of models beside their classes. */
export interface ModelFamily<Config extends ModelConfig = ModelConfig> {
  readonly name: string;
  /** @throws ConfigInvalidError, ConfigContradictionError, RopeTypeError, ConfigOverrideUnknownError, each naming key and file. */
  parseConfig(raw: unknown, options?: ParseConfigOptions): Config;
  /** From the tensors of a safetensors checkpoint to parameters, and back. */
  weights(config: Config): WeightRules;
  readonly gguf: GgufReading<Config> | null;
  readonly images: FamilyImages<Config> | null;
  /** By the architecture that a checkpoint of this family may be read as. */
  readonly readAs: Readonly<Record<string, ReadAs>>;
  /** A small config.json for each architecture of the family. @param layers as many as meet every branch, unless given. */
  small(layers?: number): Readonly<Record<string, RawConfig>>;
}
