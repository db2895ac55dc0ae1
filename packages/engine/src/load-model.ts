import { Disposables } from '@graft/common';
import {
  type Checkpoint,
  float32Policy,
  type LanguageModel,
  type Llama4TextConfig,
  loadWeights,
  type ModelContext,
  parseLlama4Config,
} from '@graft/core-model';
import { CaptureCache, type CapturedModel, type Program } from '@graft/graph';
import { construct, type EngineContainer, HookRunner, type LoadedPlugins, type Resolution, type SelectedPlatform } from '@graft/registry';
import type { EngineConfig } from './config.ts';
import type { LoadProgress } from './engine.ts';
import { EngineConfigError, NoBackendError, UnknownModeError } from './errors.ts';
import { KvCachePlan } from './kv-cache.ts';
import { captureLanguageModel } from './runner/capture-language-model.ts';
import { BackendOf, WeightPolicyOf } from './tokens.ts';

export interface LoadModel {
  plugins: LoadedPlugins;
  container: EngineContainer;
  platform: SelectedPlatform;
  checkpoint: Checkpoint;
  config: EngineConfig;
  onProgress?: (progress: LoadProgress) => void;
  signal?: AbortSignal;
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
  const { container, platform, checkpoint, config, signal } = options;
  const step = stepper(options);
  const { model, config: textConfig, context, resolution, hooks } = await buildModel(options, checkpoint, step);

  await step('load', 'loading weights', (report) => load(model, options, report));
  hooks.lifecycle.advance('loaded');
  await step('postLoad', 'post-load hooks', () => hooks.run('postLoad', model, context)); // may rename; renames are recorded

  model.setAuxHiddenStateLayers(auxLayers(config, textConfig));
  const captured = await step('capture', 'capturing forward', () => captureLanguageModel(model, new CaptureCache()));
  const kvCache = new KvCachePlan(model, context.maxModelLength);
  const backend = container.has(BackendOf(platform.platform.name)) ? await container.getAsync(BackendOf(platform.platform.name)) : null;
  if (backend === null) throw new NoBackendError(platform.platform.name);
  using unfinished = new Disposables();
  const program = await step('compile', `compiling for ${backend.name}`, (report) =>
    backend.compile(captured, {
      bindSlot: (path, kind) => kvCache.bindSlot(path, kind),
      places: config.maxSequences,
      onProgress: report,
      ...(config.threads !== undefined && { threads: config.threads }),
      ...(signal !== undefined && { signal }),
    }),
  );
  unfinished.use(program);
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
  { plugins, platform, config }: Pick<LoadModel, 'plugins' | 'platform' | 'config'>,
  source: Pick<Checkpoint, 'config' | 'path'>,
  step: RunStep = async (_name, _message, body) => body(() => undefined),
): Promise<BuiltModel> {
  const textConfig = parseLlama4Config(source.config, { where: source.path, overrides: config.configOverrides });
  const context = contextOf(textConfig, platform, config);
  const resolution = plugins.registry.resolve(context.architectures, context); // which class, and why
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
  engine: Pick<EngineConfig, 'mode' | 'maxModelLength'>,
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
  return { architectures: config.architectures, config, platform: platform.name, mode, maxModelLength, pipeline: { rank: 0, size: 1 } };
}

async function load(
  model: LanguageModel,
  { container, platform, checkpoint, config, signal }: LoadModel,
  onProgress: Report,
): Promise<void> {
  const token = WeightPolicyOf(platform.platform.name);
  const policy = config.weights === 'float32' || !container.has(token) ? float32Policy : await container.getAsync(token);
  await loadWeights(model, checkpoint, {
    policy,
    cacheDirectory: config.cacheDirectory ?? null,
    onProgress,
    ...(signal !== undefined && { signal }),
  });
}

function auxLayers({ auxHiddenStateLayers }: EngineConfig, { numHiddenLayers }: Llama4TextConfig): number[] {
  const wrong = auxHiddenStateLayers.find((layer) => layer > numHiddenLayers);
  if (wrong === undefined) return auxHiddenStateLayers;
  throw new EngineConfigError(
    `auxHiddenStateLayers names ${wrong}; the model has layers 0 to ${numHiddenLayers - 1}, and ${numHiddenLayers} for the end.`,
    'auxHiddenStateLayers',
  );
}

type Report = (fraction: number, message: string) => void;

/** Where each step of the path is reported. */
const reported = {
  resolve: 'resolve',
  construct: 'construct',
  init: 'construct',
  load: 'load',
  postLoad: 'load',
  capture: 'capture',
  compile: 'compile',
} as const;

type RunStep = <T>(name: keyof typeof reported, message: string, body: (report: Report) => T | Promise<T>) => Promise<T>;

/** Runs the steps of the path: reports each, times it, and stops between two when the signal says so. */
function stepper({ onProgress, signal }: LoadModel) {
  const timings: Record<string, number> = {};
  const run: RunStep = async (name, message, body) => {
    signal?.throwIfAborted();
    const start = performance.now();
    const report: Report = (fraction, detail) => onProgress?.({ step: reported[name], message: detail, fraction });
    onProgress?.({ step: reported[name], message, fraction: null });
    const result = await body(report);
    timings[name] = (performance.now() - start) / 1000;
    return result;
  };
  return Object.assign(run, { timings });
}
