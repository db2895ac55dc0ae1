import { join } from 'node:path';
import { evictCacheEntries } from '@graft/common';
import {
  type Checkpoint,
  type ImageTower,
  type LanguageModel,
  type Llama4TextConfig,
  llama4,
  loadWeights,
  type ModelContext,
  type ModelFamily,
  parseLlama4Config,
} from '@graft/core-model';
import {
  buildUpstream,
  type DetectedPlatform,
  type HookRunner,
  type LoadedPlugins,
  type Resolution,
  type SelectedPlatform,
  type ServiceContainer,
} from '@graft/registry';
import type { EngineConfig } from './config.ts';
import { EngineConfigError, UnknownModeError } from './errors.ts';
import { type StepContext, type StepRunner, stepper, weightOptions } from './load-steps.ts';
import { markReads } from './mark-reads.ts';
import type { WarmUpSummary } from './runner/model-runner.ts';
import { ModelRunner, RunnerParts } from './tokens.ts';

export interface LoadOptions extends StepContext {
  plugins: LoadedPlugins;
  checkpoint: Checkpoint;
  /** Upstream's class, whatever overrides it. */
  without?: 'overrides';
  /** Instead of the checkpoint's weights, of which none is read then. */
  fillWeights?: (model: LanguageModel) => void;
}

export interface BuildOptions extends Pick<LoadOptions, 'plugins' | 'without' | 'events'> {
  platform: DetectedPlatform;
  config: Pick<EngineConfig, 'configOverrides' | 'mode' | 'maxModelLength'> & Partial<Pick<EngineConfig, 'overrideOptions'>>;
}

/** A model built from its config alone: its init hooks have run, its parameters have shapes and no values. */
export interface BuiltModel {
  readonly model: LanguageModel;
  readonly config: Llama4TextConfig;
  readonly family: Pick<ModelFamily, 'images'>;
  readonly context: ModelContext;
  /** What reads images; null: the model is served for text alone. */
  readonly tower: ImageTower | null;
  readonly resolution: Resolution;
  readonly hooks: HookRunner;
}

export interface LoadedModel extends BuiltModel {
  /** Has the compiled graphs. */
  readonly runner: ModelRunner;
  /** The model's own, the runner among them; disposed by whoever owns this. */
  readonly services: ServiceContainer;
  readonly warmUp: WarmUpSummary | null;
  /** Seconds of each step. */
  readonly timings: Record<string, number>;
}

/** The path of an override, from an architecture's name to a runner that is ready to serve. */
export async function loadModel(options: LoadOptions): Promise<LoadedModel> {
  const { checkpoint, config, fillWeights } = options;
  const step = stepper(options);
  const { model, config: textConfig, context, family, tower, resolution, hooks } = await buildModel(options, checkpoint, step);

  checkPlatformOptions(options, context);

  await step('load', 'loading weights', async (report) => {
    if (fillWeights !== undefined) fillWeights(model);
    else await loadWeights(model, checkpoint, await weightOptions(options, report));
  });
  hooks.lifecycle.advance('loaded');
  await step('postLoad', 'post-load hooks', () => hooks.run('postLoad', model, context)); // may rename; renames are recorded

  model.setAuxHiddenStateLayers(auxLayers(config, textConfig));
  const prepared = await prepareRunner({ ...options, model, context, tower }, step);
  markReads({ model, tower, config: textConfig, hooks });
  hooks.lifecycle.advance('ready'); // from here a patch throws
  return { model, config: textConfig, context, family, tower, resolution, hooks, ...prepared, timings: step.timings };
}

/** The path from a loaded model to a runner that is ready to serve. It is one of the model's services: their disposal is the runner's too. */
export async function prepareRunner(
  { model, context, tower, config, events, container, signal }: RunnerParts & Pick<StepContext, 'container' | 'signal'>,
  step: StepRunner,
): Promise<Pick<LoadedModel, 'runner' | 'services' | 'warmUp'>> {
  const services = container.createModelContainer();
  services.bind(RunnerParts).toConstantValue({ model, context, tower, config, ...(events !== undefined && { events }) });
  try {
    const runner = await step('open', 'opening the model on the device', async (report) => {
      const made = await services.get(ModelRunner);
      await made.open?.(report, signal);
      return made;
    });
    await step('capture', 'capturing forward', (report) => runner.capture(report, signal));
    await step('compile', 'compiling', (report) => runner.compile(report, signal));
    const warmUp = (await (runner.warmUp && step('warmUp', 'warming up', (report) => runner.warmUp!(report, signal)))) ?? null;
    signal?.throwIfAborted();
    runner.ready(); // from here a further capture is a recompile
    const { cacheDirectory, cacheBytes } = config;
    if (cacheDirectory !== undefined) evictCacheEntries([cacheDirectory, join(cacheDirectory, 'recipes')], { maxBytes: cacheBytes });
    return { runner, services, warmUp };
  } catch (error) {
    await services[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * The path up to the init hooks: no weight is read, so a config is enough.
 * @param source config.json as parsed, and the path to name in errors.
 */
export async function buildModel(
  { plugins, platform, config, without, events }: BuildOptions,
  source: Pick<Checkpoint, 'config' | 'path'>,
  step: StepRunner = async (_name, _message, body) => body(() => undefined),
): Promise<BuiltModel> {
  const textConfig = parseLlama4Config(source.config, { where: source.path, overrides: config.configOverrides });
  const { options, requireRead } = watchedOptions((without === undefined && config.overrideOptions) || {});
  const textContext = contextOf(textConfig, platform, { ...config, overrideOptions: options });
  const { registry } = plugins;
  const chosen = registry.resolve(textConfig.architectures, { platform: textContext.platform, mode: textContext.mode, device: platform }); // which class, and why
  const resolved = without === 'overrides' ? registry.upstreamOf(chosen.architecture) : chosen;
  const vision = resolved.capabilities['images'] === true ? textConfig.vision : null;
  const classes = await step('resolve', 'importing the model class', () => registry.load<ModelContext, LanguageModel>(resolved)); // only now is model code imported
  const context = { ...textContext, architecture: resolved.architecture, vision, build: classes.build };
  const model = await step('construct', `building ${classes.Model.name}`, () => classes.construct(context)); // what overrides rely on is there
  const { resolution } = classes;
  const hooks = await plugins.createHookRunner(resolution);
  hooks.events.on('hook:warning', (warning) => events?.emit('hook:warning', warning));
  await step('init', 'init hooks', () => hooks.run('init', model, context)); // may not change parameter names
  requireRead(resolution.architecture);
  return { model, config: textConfig, context, family: llama4 as never, tower: context.vision, resolution, hooks };
}

/** @throws EngineConfigError where the platform has no options; what its own check throws. */
function checkPlatformOptions({ platform: { platform }, config }: LoadOptions, { maxModelLength }: ModelContext): void {
  const { platformOptions, maxSequences, prefillTokens } = config;
  platform.checkOptions?.(platformOptions, { maxSequences, prefillTokens, maxModelLength });
  const [option] = Object.keys(platformOptions);
  if (platform.checkOptions !== undefined || option === undefined) return;
  throw new EngineConfigError(`Platform "${platform.name}" has no options; "${option}" is given.`, 'platformOptions', 'leave it out.');
}

/** The options as overrides get them, and a check that something read each of them. */
function watchedOptions(given: Readonly<Record<string, unknown>>) {
  const unread = new Set(Object.keys(given));
  const options = new Proxy(given, {
    get(target, key) {
      unread.delete(String(key));
      return Reflect.get(target, key);
    },
  });
  const requireRead = (architecture: string): void => {
    const [option] = unread;
    if (option === undefined) return;
    const what = `Nothing that serves ${architecture} here reads the override option "${option}" when it is built.`;
    throw new EngineConfigError(what, 'overrideOptions', 'leave it out, or choose the platform and mode of the override that has it.');
  };
  return { options, requireRead };
}

const mostTokensByDefault = 8192;

/** @throws UnknownModeError, EngineConfigError */
export function contextOf(
  config: Llama4TextConfig,
  { platform }: Pick<SelectedPlatform, 'platform'>,
  engine: Pick<EngineConfig, 'mode' | 'maxModelLength'> & Partial<Pick<EngineConfig, 'overrideOptions'>>,
): ModelContext {
  const mode = engine.mode ?? platform.modes[0]!;
  if (!platform.modes.includes(mode)) throw new UnknownModeError(mode, platform.name, platform.modes);
  const limit = config.maxPositionEmbeddings;
  const maxModelLength = engine.maxModelLength ?? Math.min(limit, mostTokensByDefault);
  if (maxModelLength > limit) {
    throw new EngineConfigError(
      `maxModelLength ${maxModelLength} is more than the model's max_position_embeddings ${limit}.`,
      '--max-model-length',
    );
  }
  return {
    architecture: config.architectures[0]!,
    config,
    build: buildUpstream,
    platform: platform.name,
    mode,
    maxModelLength,
    pipeline: { rank: 0, size: 1 },
    overrideOptions: engine.overrideOptions ?? {},
  };
}

function auxLayers({ auxHiddenStateLayers }: EngineConfig, { numHiddenLayers }: Llama4TextConfig): number[] {
  const wrong = auxHiddenStateLayers.find((layer) => layer > numHiddenLayers);
  if (wrong === undefined) return auxHiddenStateLayers;
  throw new EngineConfigError(
    `auxHiddenStateLayers names ${wrong}; the model has layers 0 to ${numHiddenLayers - 1}, and ${numHiddenLayers} for the end.`,
    'auxHiddenStateLayers',
  );
}
