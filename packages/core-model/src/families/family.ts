import type { Checkpoint } from '../weights/checkpoint.ts';
import type { WeightRules } from '../weights/rules.ts';

/** A parsed config.json, or one made from a GGUF's metadata. Not validated. */
export type RawConfig = Readonly<Record<string, unknown>>;

/** The part of a config that the engine reads, for any model. */
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
  /** For errors: the file of the raw config. */
  where?: string;
  /** Keys that replace those of the raw config and of its `text_config`. `vision_config.KEY`, or an object, replaces keys of `vision_config`. */
  overrides?: Readonly<Record<string, unknown>>;
  /** False serves text alone, as if the config had no `vision_config`. */
  images?: boolean;
}

/** The part of a GGUF that its family reads. */
export interface GgufFile extends Pick<Checkpoint, 'path' | 'tensors'> {
  readonly metadata: ReadonlyMap<string, unknown>;
}

export interface GgufReading<Config extends ModelConfig = ModelConfig> {
  /** Values of `general.architecture`. */
  readonly architectures: readonly string[];
  /** The file's metadata as a config.json. @throws GgufUnsupportedError, CheckpointCorruptError */
  config(file: GgufFile): RawConfig;
  weights(config: Config): WeightRules;
}

/** The part of a vision tower's config that the engine reads. */
export interface ImageTower {
  readonly numChannels: number;
  /** Pixels of a tile's side. */
  readonly imageSize: number;
  readonly tokensPerTile: number;
  /** The placeholder token of a prompt that the tiles' tokens replace. */
  readonly imageTokenIndex: number;
}

export interface FamilyImages<Config extends ModelConfig = ModelConfig> {
  /** Null for text alone. */
  tower(config: Config): ImageTower | null;
  /** The texts of special tokens: a chat template writes `image` for an image, and a row of the tower's output replaces a `patch`. */
  readonly tokens: { readonly image: string; readonly patch: string };
  /** The prompt's tokens for one image: its tiles row by row, then the whole image. An image of one tile has that tile alone. */
  layout(tiles: { rows: number; columns: number }, tokensPerTile: number): string[];
}

/** How a checkpoint of this family is read as a model of another family. */
export interface ReadAs {
  /** Why the answers are the same; for `explain` and the log. */
  readonly why: string;
  /** This family's config.json as one of the other family. @throws GraftError when the other family cannot express this config. */
  config(raw: RawConfig, where?: string): RawConfig;
  /** From this family's tensors to the other family's parameters. @param config the other family's. */
  weights(config: never, kind: string): WeightRules;
}

/** Everything that the engine needs for a family of models, except their classes. */
export interface ModelFamily<Config extends ModelConfig = ModelConfig> {
  readonly name: string;
  /** @throws ConfigInvalidError, ConfigContradictionError, RopeTypeError, ConfigOverrideUnknownError, each naming key and file. */
  parseConfig(raw: unknown, options?: ParseConfigOptions): Config;
  /** From the tensors of a safetensors checkpoint to parameters, and back. */
  weights(config: Config): WeightRules;
  readonly gguf: GgufReading<Config> | null;
  readonly images: FamilyImages<Config> | null;
  /** By the other architecture. */
  readonly readAs: Readonly<Record<string, ReadAs>>;
  /** A small config.json for each architecture. @param layers Default: enough to reach every branch. */
  small(layers?: number): Readonly<Record<string, RawConfig>>;
}
