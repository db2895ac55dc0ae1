import { type Checkpoint, checkpointFormats, float32Policy } from '@graft/core-model';
import { type Binding, defaultBindings, type LoadedPlugins, type SelectedPlatform, type ServiceContainer } from '@graft/registry';
import { type BackendChoice as Choice, chooseBackend } from './backend-choice.ts';
import type { EngineConfig } from './config.ts';
import type { EngineInfo } from './engine.ts';
import { apiLogitsProcessors } from './logits-processors.ts';
import * as files from './model-files.ts';
import { readSource } from './model-source.ts';
import { AnyShapeRunner } from './runner/any-shape-runner.ts';
import * as scheduler from './scheduler-policy.ts';
import { loadEnginePlugins, type StartOptions } from './start-engine.ts';
import { tokenizerFormats } from './text/model-text.ts';
import {
  Backend,
  BackendChoice,
  Backends,
  CheckpointFormats,
  LogitsProcessors,
  ModelFiles,
  ModelRunner,
  SchedulerPolicy,
  SequencePolicies,
  Tokenizers,
  WeightPolicy,
} from './tokens.ts';

/** The engine's default for each service that no plugin binds, but for the backend. */
export const engineServices: readonly Binding[] = defaultBindings('engine', (bind) => {
  bind(ModelRunner).to(AnyShapeRunner);
  bind(WeightPolicy).toDynamicValue(async (services) =>
    services.has(BackendChoice) ? (await services.get(BackendChoice)).candidate.weightPolicy : float32Policy,
  );
  bind(SchedulerPolicy).to(scheduler.FirstComeFirstServed);
  bind(SequencePolicies).to(scheduler.SequencePolicies);
  bind(ModelFiles).to(files.ModelFiles);
  for (const format of checkpointFormats) bind.many(CheckpointFormats).toConstantValue(format);
  for (const format of tokenizerFormats) bind.many(Tokenizers).toConstantValue(format);
  for (const processor of apiLogitsProcessors) bind.many(LogitsProcessors).toConstantValue(processor);
});

/** The engine's defaults on a platform. Where plugins bind `Backends`, one of them serves: `choice`, or what the options name, or the first. */
export function defaultsOn(
  plugins: LoadedPlugins,
  { platform, mode, platformOptions = {} }: { platform: string; mode: string } & Partial<Pick<EngineConfig, 'platformOptions'>>,
  choice: Choice | null = null,
): readonly Binding[] {
  const hasCandidates = plugins.bindings({ platform, mode }).some(({ token }) => token === Backends);
  if (!hasCandidates) return engineServices;
  const chosen = defaultBindings('engine', (bind) => {
    bind(BackendChoice).toDynamicValue(async (services) => choice ?? (await chooseBackend(await services.get(Backends), platformOptions)));
    bind(Backend).toDynamicValue(async (services) => services.create(await (await services.get(BackendChoice)).candidate.load()));
  });
  return [...engineServices, ...chosen];
}

/**
 * The services of an application around an engine, from the plugins that `config` names. If the engine runs in a worker, these are not its own services.
 * @param defaults the application's default for each service that no plugin binds.
 */
export async function createApplicationServices(
  config: Parameters<typeof loadEnginePlugins>[0],
  { platform, mode }: Pick<EngineInfo, 'platform' | 'mode'>,
  defaults: readonly Binding[],
  options: StartOptions = {},
): Promise<ServiceContainer> {
  const plugins = await loadEnginePlugins(config, options);
  return plugins.createEngineContainer({ platform, mode, defaults });
}

/** The services of an engine on a platform, in its default mode unless the config names one. See `defaultsOn`. */
export function createServices(
  plugins: LoadedPlugins,
  { platform: { name: platform, modes } }: Pick<SelectedPlatform, 'platform'>,
  { mode = modes[0]!, ...config }: Partial<Pick<EngineConfig, 'mode' | 'platformOptions'>>,
  choice: Choice | null = null,
): ServiceContainer {
  return plugins.createEngineContainer({ platform, mode, defaults: defaultsOn(plugins, { platform, mode, ...config }, choice) });
}

/** Reads a model's files in the formats of an engine on a platform, without an engine. */
export async function readFiles<T>(
  plugins: LoadedPlugins,
  on: Pick<SelectedPlatform, 'platform'>,
  { mode }: Partial<Pick<EngineConfig, 'mode'>>,
  read: (files: ModelFiles) => Promise<T>,
): Promise<T> {
  await using container = createServices(plugins, on, mode === undefined ? {} : { mode });
  return await read(await container.get(ModelFiles));
}

/** Opens the engine's model. @throws UnknownArchitectureError before an error of its weights' files. */
export async function openModel(
  { registry }: LoadedPlugins,
  files: ModelFiles,
  { model, architecture }: Pick<EngineConfig, 'model' | 'architecture'>,
): Promise<Checkpoint> {
  return await files.open(model).catch(async (error: unknown) => {
    await readSource(registry, await files.config(model), architecture);
    throw error;
  });
}
