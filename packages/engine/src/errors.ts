import { GraftError } from '@graft/common';

/** A request does not have the form that the engine takes. */
export class InvalidRequestError extends GraftError {
  constructor(what: string, where: string, fix = 'correct the field and send the request again.') {
    super({ code: 'GRAFT_INVALID_REQUEST', what, where, fix });
  }
}

/** The prompt leaves no room for an answer. */
export class PromptTooLongError extends GraftError {
  /** @param count `at least` where the text was so long that its tokens were not counted. */
  constructor(promptTokens: number, maxModelLength: number, count: 'exactly' | 'at least' = 'exactly') {
    super({
      code: 'GRAFT_PROMPT_TOO_LONG',
      what: `The prompt has ${count === 'at least' ? 'at least ' : ''}${promptTokens} tokens; the context holds ${maxModelLength}, and at least one must be left for the answer.`,
      where: 'prompt',
      fix: 'shorten the prompt, or start the server with a larger --max-model-length.',
    });
  }
}

/** A token id that the model does not have. */
export class TokenOutOfRangeError extends GraftError {
  constructor(tokenId: number, vocabSize: number) {
    super({
      code: 'GRAFT_TOKEN_OUT_OF_RANGE',
      what: `Token ${tokenId} does not exist: the model has ${vocabSize}, counted from 0.`,
      where: 'prompt',
      fix: "use ids of this model's own vocabulary.",
    });
  }
}

/** The model has no tokenizer, and was given text. */
export class NoTokenizerError extends GraftError {
  constructor(where: string) {
    super({
      code: 'GRAFT_NO_TOKENIZER',
      what: 'This checkpoint has no tokenizer.',
      where,
      fix: 'send token ids, or add tokenizer.json to the folder.',
    });
  }
}

/** The engine was closed, or its worker ended. */
export class EngineClosedError extends GraftError {
  constructor(what = 'The engine is closed.') {
    super({ code: 'GRAFT_ENGINE_CLOSED', what, fix: 'start it again.' });
  }
}

/** A key of the engine's configuration is wrong. */
export class EngineConfigError extends GraftError {
  constructor(what: string, where: string, fix: string | undefined = 'correct the option; `graft serve --help` lists all of them.') {
    super({ code: 'GRAFT_ENGINE_CONFIG', what, where, fix });
  }
}

/** Nothing overrides the architecture there, so there is nothing to hold against upstream. */
export class NothingToVerifyError extends GraftError {
  /** @param platforms those for which there is an override. */
  constructor(architecture: string, platform: string | undefined, platforms: readonly string[]) {
    const quoted = platforms.map((name) => `"${name}"`).join(', ');
    super({
      code: 'GRAFT_NOTHING_TO_VERIFY',
      what: `No loaded plugin overrides ${architecture}${platform === undefined ? '' : ` on platform "${platform}"`}.`,
      where: platform === undefined ? architecture : `--platform ${platform}`,
      fix:
        platforms.length > 0 ? `name a platform with an override: ${quoted}.` : 'name the plugin that brings the override with --plugins.',
    });
  }
}

/** The platform does not have the mode that was asked for. */
export class UnknownModeError extends GraftError {
  constructor(mode: string, platform: string, modes: readonly string[]) {
    super({
      code: 'GRAFT_UNKNOWN_MODE',
      what: `Platform "${platform}" has no mode "${mode}".`,
      where: '--mode',
      fix: `choose one of ${modes.map((name) => `"${name}"`).join(', ')}.`,
    });
  }
}

/** The checkpoint to reload has another config than the model that serves. */
export class ReloadConfigError extends GraftError {
  constructor(path: string, differing: readonly { key: string; was: string; is: string }[]) {
    const keys = differing.map(({ key, was, is }) => `${key} (${was} is served, ${is} is there)`);
    super({
      code: 'GRAFT_RELOAD_CONFIG',
      what: `The checkpoint is of another model than the one that serves; it differs in ${keys.join(', ')}.`,
      where: path,
      fix: 'reload weights of the same config; to serve another model, start the engine with it.',
    });
  }
}

/** Weights are being reloaded already. */
export class ReloadBusyError extends GraftError {
  constructor(model: string) {
    super({
      code: 'GRAFT_RELOAD_BUSY',
      what: `The weights of ${model} are being loaded; one reload at a time.`,
      fix: 'wait until it has ended, or abort it.',
    });
  }
}

/** A plugin was passed in code to an engine that runs in a worker, which functions do not reach. */
export class PluginInCodeError extends GraftError {
  constructor(names: readonly string[]) {
    const quoted = names.map((name) => `"${name}"`).join(', ');
    super({
      code: 'GRAFT_PLUGIN_IN_CODE',
      what: `A plugin that was passed in code cannot follow into the engine's worker: ${quoted}.`,
      where: `plugin ${quoted} (passed in code)`,
      fix: 'make it the default export of a module and name that module in `plugins` (a package name, a path or a file URL), or use LlmEngine.start, which runs in this thread.',
    });
  }
}

/** Something that is not one of ours was thrown; it crosses the worker boundary as this. */
export class EngineFailureError extends GraftError {
  constructor(what: string, cause?: unknown) {
    super({ code: 'GRAFT_ENGINE_FAILURE', what, cause });
  }
}

/** `logitBias` names a token that the model does not have. */
export class LogitBiasTokenError extends GraftError {
  constructor(tokenId: number, vocabSize: number) {
    super({
      code: 'GRAFT_LOGIT_BIAS_TOKEN',
      what: `Token ${tokenId} does not exist: the model has ${vocabSize}, counted from 0.`,
      where: `logitBias["${tokenId}"]`,
      fix: 'use ids of this model; they differ from those of other models.',
    });
  }
}

/** A scheduler policy of a plugin decided something that cannot be done. The requests that wait or run end with this error. */
export class SchedulerPolicyError extends GraftError {
  constructor(what: string, policy: object) {
    super({
      code: 'GRAFT_SCHEDULER_POLICY',
      what: `The scheduler policy cannot be followed: ${what}.`,
      where: policy.constructor.name,
      fix: 'next() must give one of the sequences that it is given, prefillTokens() a number of at least 1; graft explain --services names the plugin.',
    });
  }
}

/** The checkpoint cannot be read as the architecture that was asked for. */
export class ReadAsError extends GraftError {
  constructor({ from, as, path, allowed }: { from: string; as: string; path: string; allowed: readonly string[] }) {
    super({
      code: 'GRAFT_READ_AS',
      what: `A ${from} cannot be read as ${as}; ${allowed.length === 0 ? 'its family can be read as no other' : `it can be read as ${allowed.join(', ')}`}.`,
      where: `${path}, --architecture`,
      fix: 'leave --architecture out, or name one that its family allows.',
    });
  }
}

/** No registered family reads this kind of GGUF. */
export class UnknownGgufError extends GraftError {
  constructor(architecture: string, path: string, known: readonly string[]) {
    super({
      code: 'GRAFT_UNKNOWN_GGUF',
      what: `No loaded plugin reads a GGUF of architecture "${architecture}"; known are ${known.map((name) => `"${name}"`).join(', ')}.`,
      where: `${path}, key "general.architecture"`,
      fix: 'load the plugin that brings the family, or use a model of one that is known.',
    });
  }
}

/** A plugin brings a model class and does not say how its checkpoints are read. */
export class NoFamilyError extends GraftError {
  constructor(architecture: string, plugin: string) {
    super({
      code: 'GRAFT_NO_FAMILY',
      what: `The plugin "${plugin}" brings ${architecture} without a family, so its config and weights cannot be read.`,
      where: `plugin "${plugin}", models`,
      fix: 'give the model a family, made by defineFamily: `family: () => import(...)`.',
    });
  }
}
