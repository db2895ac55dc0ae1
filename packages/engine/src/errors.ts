import { graftError, quotedList, wordedError } from '@graft/common';

/** A request has the wrong form. */
export class InvalidRequestError extends wordedError('GRAFT_INVALID_REQUEST', 'correct the field and send the request again.') {}

/**
 * The prompt leaves no room for an answer.
 * @param count `at least` if the text was so long that counting stopped early.
 */
export class PromptTooLongError extends graftError(
  'GRAFT_PROMPT_TOO_LONG',
  (promptTokens: number, maxModelLength: number, count: 'exactly' | 'at least' = 'exactly') => ({
    what: `The prompt has ${count === 'at least' ? 'at least ' : ''}${promptTokens} tokens; the context holds ${maxModelLength}, and the answer needs at least one.`,
    where: 'prompt',
    fix: 'shorten the prompt, or start the server with a larger --max-model-length.',
  }),
) {}

const noSuchToken = (tokenId: number, vocabSize: number): string =>
  `Token ${tokenId} does not exist: the model has ${vocabSize}, counted from 0.`;

/** The prompt has a token id that the model lacks. */
export class TokenOutOfRangeError extends graftError('GRAFT_TOKEN_OUT_OF_RANGE', (tokenId: number, vocabSize: number) => ({
  what: noSuchToken(tokenId, vocabSize),
  where: 'prompt',
  fix: "use ids of this model's vocabulary.",
})) {}

/** `logitBias` names a token that the model lacks. */
export class LogitBiasTokenError extends graftError('GRAFT_LOGIT_BIAS_TOKEN', (tokenId: number, vocabSize: number) => ({
  what: noSuchToken(tokenId, vocabSize),
  where: `logitBias["${tokenId}"]`,
  fix: "use ids of this model's vocabulary; they differ from those of other models.",
})) {}

/** A model without a tokenizer was given text. */
export class NoTokenizerError extends graftError('GRAFT_NO_TOKENIZER', (where: string) => ({
  what: 'This checkpoint has no tokenizer.',
  where,
  fix: 'send token ids, or add tokenizer.json or tokenizer.model to the folder.',
})) {}

/** The engine was closed, or its worker ended. */
export class EngineClosedError extends graftError('GRAFT_ENGINE_CLOSED', (what: string = 'The engine is closed.') => ({
  what,
  fix: 'start it again.',
})) {}

/** A key of the engine's configuration is wrong. */
export class EngineConfigError extends wordedError('GRAFT_ENGINE_CONFIG', 'correct the option; `graft serve --help` lists all of them.') {}

interface Unserved {
  readonly plugin: string;
  readonly detail: string;
}

/**
 * No override serves the architecture, so nothing can be compared with upstream.
 * @param touched the platforms with an override.
 * @param unknown overrides whose platform no loaded plugin brings.
 * @param refused overrides of this platform that do not serve.
 */
export class NothingToVerifyError extends graftError(
  'GRAFT_NOTHING_TO_VERIFY',
  (
    architecture: string,
    platform: string | undefined,
    found: { touched?: readonly string[]; unknown?: readonly Unserved[]; refused?: readonly Unserved[] },
  ) => {
    const { touched = [], unknown = [], refused = [] } = found;
    const why = new Set([...unknown, ...refused].map(({ plugin, detail }) => `of plugin "${plugin}", ${detail}`));
    const on = platform === undefined ? '' : ` on platform "${platform}"`;
    const who = refused.length > 0 ? 'No override serves' : 'No loaded plugin overrides';
    return {
      what: `${who} ${architecture}${on}${why.size === 0 ? '' : `: ${[...why].join('; ')}`}.`,
      where: platform === undefined ? architecture : `--platform ${platform}`,
      fix:
        refused.length > 0
          ? 'let one of them serve: change its `when`, name one of its modes with --mode, or take it out of --without.'
          : touched.length > 0
            ? `name a platform that has an override: ${quotedList(touched)}.`
            : unknown.length > 0
              ? 'correct the platform in the plugin, or add the plugin that brings it to --plugins (@graft/cpu for "cpu").'
              : 'name the plugin that brings the override with --plugins.',
    };
  },
) {}

/** The platform lacks the requested mode. */
export class UnknownModeError extends graftError('GRAFT_UNKNOWN_MODE', (mode: string, platform: string, modes: readonly string[]) => ({
  what: `Platform "${platform}" has no mode "${mode}".`,
  where: '--mode',
  fix: `choose ${quotedList(modes)}.`,
})) {}

/** The checkpoint to reload has a different config from the served model. */
export class ReloadConfigError extends graftError(
  'GRAFT_RELOAD_CONFIG',
  (path: string, differing: readonly { key: string; was: string; is: string }[]) => ({
    what: `The checkpoint's config differs from that of the served model in these keys: ${differing.map(({ key, was, is }) => `${key} (served: ${was}; checkpoint: ${is})`).join(', ')}.`,
    where: path,
    fix: 'reload weights of the same config; to serve another model, start the engine with it.',
  }),
) {}

/** Weights are being reloaded already. */
export class ReloadBusyError extends graftError('GRAFT_RELOAD_BUSY', (model: string) => ({
  what: `The weights of ${model} are being loaded. Only one reload runs at a time.`,
  fix: 'wait for its end, or abort it.',
})) {}

/** A plugin was passed in code to an engine that runs in a worker, which functions cannot reach. */
export class PluginInCodeError extends graftError('GRAFT_PLUGIN_IN_CODE', (names: readonly string[]) => ({
  what: `A plugin that was passed in code cannot reach the engine's worker: ${quotedList(names, 'none', 'and')}.`,
  where: `plugin ${quotedList(names, 'none', 'and')} (passed in code)`,
  fix: 'export it by default from a module and name that module in `plugins` (a package name, a path or a file URL), or use LlmEngine.start, which runs in this thread.',
})) {}

/** Crosses the worker boundary in place of an error that is no GraftError. */
export class EngineFailureError extends graftError('GRAFT_ENGINE_FAILURE', (what: string, cause?: unknown) => ({ what, cause })) {}

/** A plugin's scheduler policy made a decision that the scheduler cannot follow. All waiting and running requests end with this error. */
export class SchedulerPolicyError extends graftError('GRAFT_SCHEDULER_POLICY', (what: string, policy: object, cause?: unknown) => ({
  what: `The scheduler cannot follow its policy: ${what}.`,
  where: policy.constructor.name,
  fix: 'return one of the given sequences from next() and at least 1 from prefillTokens(); graft explain --services names the plugin.',
  cause,
})) {}

interface OtherReading {
  from: string;
  as: string;
  path: string;
  allowed: readonly string[];
}

/** The checkpoint cannot be read as the requested architecture. */
export class ReadAsError extends graftError('GRAFT_READ_AS', ({ from, as, path, allowed }: OtherReading) => ({
  what: `A ${from} cannot be read as ${as}; ${allowed.length === 0 ? 'its family allows no other reading' : `it can be read as ${allowed.join(', ')}`}.`,
  where: `${path}, --architecture`,
  fix: 'leave --architecture out, or name one that its family allows.',
})) {}

/** No registered family reads this kind of GGUF. */
export class UnknownGgufError extends graftError('GRAFT_UNKNOWN_GGUF', (architecture: string, path: string, known: readonly string[]) => ({
  what: `No loaded plugin reads a GGUF of architecture "${architecture}"; known are ${quotedList(known, 'none', 'and')}.`,
  where: `${path}, key "general.architecture"`,
  fix: 'load the plugin that brings the family, or use a model of a known family.',
})) {}

/** A plugin declares a model without a family, or with one that lacks a part, so its checkpoints cannot be read. */
export class NoFamilyError extends graftError(
  'GRAFT_NO_FAMILY',
  (
    architecture: string,
    plugin: string,
    lacking: string = 'a family',
    fix: string = 'give the model a family, made by defineFamily: `family: () => import(...)`.',
  ) => ({
    what: `The plugin "${plugin}" brings ${architecture} without ${lacking}, so Graft cannot load it.`,
    where: `plugin "${plugin}", models`,
    fix,
  }),
) {}
