import { GraftError } from '@graft/common';

/** A config.json does not have the form of its family. */
export class ConfigInvalidError extends GraftError {
  constructor(what: string, where: string, fix = 'correct config.json, or override the key with --config-overrides.') {
    super({ code: 'GRAFT_CONFIG_INVALID', what, where, fix });
  }
}

/** Two keys of a config.json say different things. */
export class ConfigContradictionError extends GraftError {
  constructor(what: string, where: string) {
    super({
      code: 'GRAFT_CONFIG_CONTRADICTION',
      what,
      where,
      fix: 'override one of the two keys with --config-overrides so that they agree.',
    });
  }
}

/** A rope type that Graft does not compute. */
export class RopeTypeError extends GraftError {
  constructor(type: string, where: string, known: readonly string[]) {
    super({
      code: 'GRAFT_ROPE_TYPE_UNKNOWN',
      what: `Rope type "${type}" is not known; known are ${known.join(', ')}.`,
      where,
      fix: 'a wrong rotation gives wrong answers, so the model is not loaded; convert the checkpoint, or override rope_parameters if it is mistaken.',
    });
  }
}

/** A key in --config-overrides that neither the config nor its schema has. */
export class ConfigOverrideUnknownError extends GraftError {
  constructor(key: string, nearest: readonly string[]) {
    super({
      code: 'GRAFT_CONFIG_OVERRIDE_UNKNOWN',
      what: `"${key}" is no key of this model's config.`,
      where: `config override "${key}"`,
      fix: `did you mean ${nearest.map((name) => `"${name}"`).join(', ')}?`,
    });
  }
}

/** Images are to be embedded by a model that was built for text alone. */
export class ImagesNotBuiltError extends GraftError {
  constructor(model: string) {
    super({
      code: 'GRAFT_IMAGES_NOT_BUILT',
      what: 'The model was built for text alone and has no vision tower.',
      where: `${model}.embedImages`,
      fix: 'build it on the first pipeline rank, from a config that has a vision_config and is not parsed with `images: false`.',
    });
  }
}
