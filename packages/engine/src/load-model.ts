import { join } from 'node:path';
import { evictCacheEntries, meantNames } from '@graft/common';
import {
  type Checkpoint,
  type ImageTower,
  type LanguageModel,
  loadWeights,
  type ModelConfig,
  type ModelContext,
  type ModelFamily,
  type WeightRules,
} from '@graft/core-model';
import { CaptureCache, readsOf } from '@graft/graph';
import type { DetectedPlatform, HookRunner, LoadedPlugins, Resolution, ServiceContainer } from '@graft/registry';
import { backendOption, measurementsIn } from './backend-choice.ts';
import { guarded } from './call-plugin.ts';
import type { EngineConfig } from './config.ts';
import { EngineConfigError, NoFamilyError, UnknownModeError } from './errors.ts';
import { type StepContext, type StepRunner, stepper, weightOptions } from './load-steps.ts';
import { type ModelSource, readSource } from './model-source.ts';
import { captureAnyShape } from './runner/capture-model.ts';
import type { WarmUpSummary } from './runner/model-runner.ts';
import { Backends, ModelRunner, RunnerParts } from './tokens.ts';

export interface LoadOptions extends StepContext {
  plugins: LoadedPlugins;
  source: ModelSource;
  /** Builds upstream's classes and ignores all overrides. */
  without?: 'overrides';
  /** Replaces the loading of weights: none of the checkpoint is read. */
  fillWeights?: (model: LanguageModel) => void;
}

/** The options that decide which model is built, and how. */
export type ModelChoice = Partial<
  Pick<
    EngineConfig,
    'architecture' | 'configOverrides' | 'images' | 'maxModelLength' | 'mode' | 'overrideOptions' | 'requireOverride' | 'without'
  >
>;

export interface BuildOptions extends Pick<LoadOptions, 'plugins' | 'without' | 'events'> {
  platform: DetectedPlatform;
  config: ModelChoice;
}

/** A checkpoint's config as its family parses it, and the rules by which its tensors become parameters. */
export interface ModelReading extends Pick<ModelSource, 'architectures'> {
  readonly config: ModelConfig;
  readonly rules: WeightRules;
}

/** A model built from its config alone. Its init hooks have run; its parameters have shapes but no values. */
export interface BuiltModel extends Pick<ModelSource, 'readAs'>, ModelReading {
  readonly model: LanguageModel;
  readonly context: ModelContext;
  readonly family: ModelFamily;
  /** The vision tower; null if the model is served for text alone. */
  readonly tower: ImageTower | null;
  readonly resolution: Resolution;
  readonly hooks: HookRunner;
  /** Reads another checkpoint in the same way. */
  read(checkpoint: Checkpoint): Promise<ModelReading>;
}

export interface LoadedModel extends BuiltModel {
  /** Has the compiled graphs. */
  readonly runner: ModelRunner;
  /** The services of this model, its runner included. The owner of the model disposes them. */
  readonly services: ServiceContainer;
  readonly warmUp: WarmUpSummary | null;
  /** Seconds of each step. */
  readonly timings: Record<string, number>;
}

/** The path of an override, from an architecture's name to a runner that is ready to serve. */
export async function loadModel(options: LoadOptions): Promise<LoadedModel> {
  const { source, config, fillWeights } = options;
  const step = stepper(options);
  const built = await buildModel(options, source, step);
  const { model, context, hooks, rules, resolution } = built;
  await checkPlatformOptions(options, context);
  await step('load', 'loading weights', async (report) => {
    if (fillWeights !== undefined) fillWeights(model);
    else
      await loadWeights(model, source.checkpoint, { ...(await weightOptions(options, report)), rules, madeBy: overrideAround(resolution) });
  });
  hooks.lifecycle.advance('loaded');
  await step('postLoad', 'post-load hooks', () => hooks.run('postLoad', model, context)); // may rename; renames are recorded

  model.setAuxHiddenStateLayers(auxLayers(config, built.config));
  const prepared = await prepareRunner({ ...options, ...built, config }, step);
  markReads(built, prepared.runner.captured);
  hooks.lifecycle.advance('ready'); // from here a patch throws
  return { ...built, ...prepared, timings: step.timings };
}

/** The path from a loaded model to a runner that is ready to serve. The runner is one of the model's services and is disposed with them. */
export async function prepareRunner(
  { model, context, tower, config, events, container, signal }: RunnerParts & Pick<StepContext, 'container' | 'signal'>,
  step: StepRunner,
): Promise<Pick<LoadedModel, 'runner' | 'services' | 'warmUp'>> {
  const services = container.createModelContainer();
  services.bind(RunnerParts).toConstantValue({ model, context, tower, config, ...(events !== undefined && { events }) });
  try {
    const runner = await step('open', 'opening the model on the device', async (report) => {
      const made = guarded('ModelRunner', await services.get(ModelRunner), { run: ['logits', 'auxHiddenStates'], embedImages: ['data'] });
      await made.open?.(report, signal);
      return made;
    });
    await step('capture', 'capturing forward', (report) => runner.capture(report, signal));
    await step('compile', 'compiling', (report) => runner.compile(report, signal));
    const warmUp = (await (runner.warmUp && step('warmUp', 'warming up', (report) => runner.warmUp!(report, signal)))) ?? null;
    signal?.throwIfAborted();
    runner.ready(); // from here a further capture is a recompile
    const { cacheDirectory, cacheBytes } = config;
    if (cacheDirectory !== undefined)
      evictCacheEntries([cacheDirectory, join(cacheDirectory, 'recipes'), measurementsIn(cacheDirectory)], { maxBytes: cacheBytes });
    return { runner, services, warmUp };
  } catch (error) {
    await services[Symbol.asyncDispose]();
    throw error;
  }
}

/** Tells the ledger which patches `forward` reads. @param captured the model at any shape; a patched model is captured for it if left out. */
export function markReads(built: BuiltModel, captured?: ModelRunner['captured']): void {
  const { ledger } = built.hooks;
  if (ledger.toJSON().length === 0) return;
  ledger.markRead((captured ?? captureAnyShape(built, new CaptureCache())).flatMap(readsOf));
}

/** The path up to the init hooks: no weight is read, so a config is enough. */
export async function buildModel(
  { plugins, platform, config: choice, without, events }: BuildOptions,
  source: ModelSource,
  step: StepRunner = async (_name, _message, body) => body(() => undefined),
): Promise<BuiltModel> {
  const { registry } = plugins;
  const mode = modeOf(platform, choice);
  const chosen = registry.resolve(source.architectures, {
    platform: platform.platform.name,
    mode,
    device: platform,
    without: choice.without ?? [],
    requireOverride: choice.requireOverride ?? false,
  }); // which classes, and why
  const resolved = without === 'overrides' ? registry.upstreamOf(chosen.architecture) : chosen;
  const classes = await step('resolve', 'importing the model classes', () =>
    registry.load<ModelContext, LanguageModel, ModelFamily>(resolved),
  ); // only now is model code imported
  const { family } = classes;
  const expectParts = (what: string, parts: object | null | undefined, types: Readonly<Record<string, string>>, fix?: string): void => {
    const lacking = Object.keys(types).filter((key) => typeof (parts as Record<string, unknown> | null | undefined)?.[key] !== types[key]);
    if (lacking.length === 0) return;
    const shown = `${lacking.map((key) => `"${key}"`).join(', ')} in ${what}`;
    throw new NoFamilyError(resolved.architecture, resolved.chain[0]!.plugin, shown, fix);
  };
  if (family === null || family === undefined) throw new NoFamilyError(resolved.architecture, resolved.chain[0]!.plugin);
  expectParts('its family (make it by defineFamily)', family, { parseConfig: 'function', weights: 'function' });
  const images = servesImages(choice, resolved);
  const read = ({ checkpoint, architectures, raw, rules }: ModelSource): ModelReading => {
    const config = family.parseConfig(raw, { where: checkpoint.path, overrides: choice.configOverrides ?? {}, images });
    expectParts('the config that its family parses', config, baseKeys);
    const weights = rules(family, config);
    expectParts('the rules that its family gives for weights', weights, { runsOf: 'function', isUnused: 'function' });
    return { architectures, config, rules: weights };
  };
  const reading = read(source);
  const { options, requireRead } = watchedOptions((without === undefined && choice.overrideOptions) || {});
  const context: ModelContext = {
    architecture: resolved.architecture,
    config: reading.config,
    platform: platform.platform.name,
    mode,
    maxModelLength: lengthOf(reading.config, choice),
    pipeline: { rank: 0, size: 1 },
    overrideOptions: options,
    build: classes.build,
  };
  const model = await step('construct', `building ${classes.Model.name}`, () => classes.construct(context)); // the contracts of overrides are checked first
  for (const message of classes.warnings(model)) events?.emit('load:warning', { message });
  const traversal = { namedParameters: 'function', namedModules: 'function' };
  expectParts(`its class ${classes.Model.name}`, model, traversal, `let ${classes.Model.name} extend Module of @graft/graph.`);
  const { resolution } = classes;
  const hooks = await plugins.createHookRunner(resolution);
  hooks.events.on('hook:warning', (warning) => events?.emit('hook:warning', warning));
  await step('init', 'init hooks', () => hooks.run('init', model, context)); // may not change parameter names
  requireRead(resolution.architecture);
  const tower = images ? (family.images?.tower(reading.config) ?? null) : null;
  return {
    ...reading,
    model,
    context,
    family,
    tower,
    readAs: source.readAs,
    resolution,
    hooks,
    read: async (other) => read(await readSource(registry, other, choice.architecture)),
  };
}

/** By a parameter's name, the override that built the innermost part around it, in words; null for upstream. */
function overrideAround({ candidates, layers }: Resolution): (parameter: string) => string | null {
  const replaced = [...candidates, ...layers.flatMap((layer) => layer.candidates)].flatMap(({ plugin, className, replaced }) =>
    (replaced?.paths ?? []).map((path) => ({ path, words: `the override ${className} of plugin "${plugin}"` })),
  );
  const inner = replaced.sort((a, b) => b.path.length - a.path.length);
  return (parameter) => inner.find(({ path }) => path === '' || parameter.startsWith(`${path}.`))?.words ?? null;
}

/** The keys that the engine reads of every config. */
const baseKeys = {
  vocabSize: 'number',
  hiddenSize: 'number',
  numHiddenLayers: 'number',
  maxPositionEmbeddings: 'number',
  bosTokenIds: 'object',
  eosTokenIds: 'object',
  tieWordEmbeddings: 'boolean',
};

/** Whether a model is served with its images. */
export const servesImages = ({ images }: Pick<ModelChoice, 'images'>, { capabilities }: Pick<Resolution, 'capabilities'>): boolean =>
  images !== false && capabilities['images'] === true;

/** @throws UnknownModeError */
export function modeOf({ platform }: Pick<DetectedPlatform, 'platform'>, { mode = platform.modes[0]! }: Pick<ModelChoice, 'mode'>): string {
  if (!platform.modes.includes(mode)) throw new UnknownModeError(mode, platform.name, platform.modes);
  return mode;
}

/** @throws EngineConfigError if the platform has no options; the errors of the platform's own check. */
async function checkPlatformOptions(
  { platform: detected, config, container }: LoadOptions,
  { maxModelLength }: ModelContext,
): Promise<void> {
  const { maxSequences, prefillTokens } = config;
  const { platform } = detected;
  const isOfPlatform = (await container.get(Backends)).length === 0 ? () => true : (key: string) => key !== backendOption;
  const platformOptions = Object.fromEntries(Object.entries(config.platformOptions).filter(([key]) => isOfPlatform(key)));
  platform.checkOptions?.(platformOptions, { maxSequences, prefillTokens, maxModelLength }, detected);
  const [option] = Object.keys(platformOptions);
  if (platform.checkOptions !== undefined || option === undefined) return;
  throw new EngineConfigError(`Platform "${platform.name}" has no options, but "${option}" is given.`, 'platformOptions', 'leave it out.');
}

/** The options for overrides, and a check that each of them was read. */
function watchedOptions(given: Readonly<Record<string, unknown>>) {
  const read = new Set<string>();
  const options = new Proxy(given, {
    get(target, key) {
      read.add(String(key));
      return Reflect.get(target, key);
    },
  });
  const requireRead = (architecture: string): void => {
    const option = Object.keys(given).find((name) => !read.has(name));
    if (option === undefined) return;
    const [meant] = meantNames(option, read);
    const what = `Nothing that serves ${architecture} here reads the override option "${option}" when it is built.`;
    const fix =
      meant === undefined
        ? 'leave it out, or choose the platform and mode of the override that has it.'
        : `write "${meant}", which was read.`;
    throw new EngineConfigError(what, `overrideOptions.${option}`, fix);
  };
  return { options, requireRead };
}

const mostTokensByDefault = 8192;

/** The most tokens of a sequence. @throws EngineConfigError */
export function lengthOf(
  { maxPositionEmbeddings: limit }: ModelConfig,
  { maxModelLength = Math.min(limit, mostTokensByDefault) }: ModelChoice,
): number {
  if (maxModelLength <= limit) return maxModelLength;
  throw new EngineConfigError(
    `maxModelLength ${maxModelLength} is more than the model's max_position_embeddings ${limit}.`,
    '--max-model-length',
  );
}

function auxLayers({ auxHiddenStateLayers }: EngineConfig, { numHiddenLayers }: ModelConfig): number[] {
  const wrong = auxHiddenStateLayers.find((layer) => layer > numHiddenLayers);
  if (wrong === undefined) return auxHiddenStateLayers;
  throw new EngineConfigError(
    `auxHiddenStateLayers names ${wrong}; the model has layers 0 to ${numHiddenLayers - 1}, and ${numHiddenLayers} for the end.`,
    'auxHiddenStateLayers',
  );
}
