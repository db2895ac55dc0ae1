import { Disposables } from '@graft/common';
import {
  type Checkpoint,
  type LanguageModel,
  type Llama4TextConfig,
  loadWeights,
  type ModelContext,
  parseLlama4Config,
} from '@graft/core-model';
import { CaptureCache, type CapturedModel, type Program } from '@graft/graph';
import { construct, HookRunner, type LoadedPlugins, type Resolution, type SelectedPlatform } from '@graft/registry';
import type { EngineConfig } from './config.ts';
import { EngineConfigError, UnknownModeError } from './errors.ts';
import { KvCachePlan } from './kv-cache.ts';
import { compileProgram, type RunStep, type StepContext, stepper, weightOptions } from './load-steps.ts';
import { captureLanguageModel } from './runner/capture-language-model.ts';

export interface LoadModel extends StepContext {
  plugins: LoadedPlugins;
  checkpoint: Checkpoint;
  /** Upstream's class, whatever overrides it. */
  without?: 'overrides';
  /** Instead of the checkpoint's weights, of which none is read then. */
  fillWeights?: (model: LanguageModel) => void;
}

export interface BuildModel extends Pick<LoadModel, 'plugins' | 'without'> {
  platform: Pick<SelectedPlatform, 'platform'>;
  config: Pick<EngineConfig, 'configOverrides' | 'mode' | 'maxModelLength'> & Partial<Pick<EngineConfig, 'overrideOptions'>>;
}

/** A model built from its config alone: its init hooks have run, its parameters have shapes and no values. */
export interface BuiltModel {
  readonly model: LanguageModel;
  readonly config: Llama4TextConfig;
  readonly context: ModelContext;
  readonly resolution: Resolution;
  readonly hooks: HookRunner;
}

export interface LoadedModel extends BuiltModel {
  readonly captured: CapturedModel;
  readonly program: Program;
  readonly kvCache: KvCachePlan;
  /** Seconds of each step. */
  readonly timings: Record<string, number>;
}

/** The path of an override, from an architecture's name to a program that is ready to serve. */
export async function loadModel(options: LoadModel): Promise<LoadedModel> {
  const { checkpoint, config, signal, fillWeights } = options;
  const step = stepper(options);
  const { model, config: textConfig, context, resolution, hooks } = await buildModel(options, checkpoint, step);

  await step('load', 'loading weights', async (report) => {
    if (fillWeights !== undefined) fillWeights(model);
    else await loadWeights(model, checkpoint, await weightOptions(options, report));
  });
  hooks.lifecycle.advance('loaded');
  await step('postLoad', 'post-load hooks', () => hooks.run('postLoad', model, context)); // may rename; renames are recorded

  model.setAuxHiddenStateLayers(auxLayers(config, textConfig));
  const captured = await step('capture', 'capturing forward', () => captureLanguageModel(model, new CaptureCache()));
  const kvCache = new KvCachePlan(model, context.maxModelLength);
  using unfinished = new Disposables();
  const program = unfinished.use(await step('compile', 'compiling', (report) => compileProgram(captured, kvCache, options, report)));
  signal?.throwIfAborted();
  hooks.lifecycle.advance('ready'); // from here a patch throws
  unfinished.move();
  return { model, config: textConfig, context, resolution, hooks, captured, program, kvCache, timings: step.timings };
}

/**
 * The path up to the init hooks: no weight is read, so a config is enough.
 * @param source config.json as parsed, and the path to name in errors.
 */
export async function buildModel(
  { plugins, platform, config, without }: BuildModel,
  source: Pick<Checkpoint, 'config' | 'path'>,
  step: RunStep = async (_name, _message, body) => body(() => undefined),
): Promise<BuiltModel> {
  const textConfig = parseLlama4Config(source.config, { where: source.path, overrides: config.configOverrides });
  const context = contextOf(textConfig, platform, config);
  const chosen = plugins.registry.resolve(context.architectures, context); // which class, and why
  const resolution = without === 'overrides' ? plugins.registry.upstreamOf(chosen.architecture) : chosen;
  const Model = await step('resolve', 'importing the model class', () => resolution.load<ModelContext, LanguageModel>()); // only now is model code imported
  const hooks = new HookRunner(resolution, plugins.hooks);
  const build = () => construct(Model, context);
  const model = await step('construct', `building ${Model.name}`, () => resolution.buildUnderContract(build)); // what overrides rely on is there
  await step('init', 'init hooks', () => hooks.run('init', model, context)); // may not change parameter names
  return { model, config: textConfig, context, resolution, hooks };
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
    architectures: config.architectures,
    config,
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
