import { graftError, wordedError } from '@graft/common';

/** A config.json does not have the form of its family. */
export class ConfigInvalidError extends wordedError(
  'GRAFT_CONFIG_INVALID',
  'correct config.json, or override the key with --config-overrides.',
) {}

/** Two keys of a config.json contradict each other. */
export class ConfigContradictionError extends wordedError(
  'GRAFT_CONFIG_CONTRADICTION',
  'override one of the two keys with --config-overrides so that they agree.',
) {}

/** Graft does not compute this rope type. */
export class RopeTypeError extends wordedError(
  'GRAFT_ROPE_TYPE_UNKNOWN',
  'convert the checkpoint, or override rope_parameters if they are wrong. A wrong rotation would give wrong answers.',
) {}

/** --config-overrides has a key that neither the config nor its schema has. */
export class ConfigOverrideUnknownError extends graftError('GRAFT_CONFIG_OVERRIDE_UNKNOWN', (key: string, nearest: readonly string[]) => ({
  what: `This model's config has no key "${key}".`,
  where: `config override "${key}"`,
  fix: `did you mean ${nearest.map((name) => `"${name}"`).join(', ')}?`,
})) {}

/** The model was built for text alone and cannot embed images. */
export class ImagesNotBuiltError extends graftError('GRAFT_IMAGES_NOT_BUILT', (model: string) => ({
  what: 'The model was built for text alone and has no vision tower.',
  where: `${model}.embedImages`,
  fix: 'build it on the first pipeline rank, from a config that has a vision_config and is not parsed with `images: false`.',
})) {}
