import { type Checkpoint, checkpointFormats, float32Policy } from '@graft/core-model';
import { type Binding, defaultBindings, type LoadedPlugins, type SelectedPlatform, type ServiceContainer } from '@graft/registry';
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
  CheckpointFormats,
  LogitsProcessors,
  ModelFiles,
  ModelRunner,
  SchedulerPolicy,
  SequencePolicies,
  Tokenizers,
  WeightPolicy,
} from './tokens.ts';

/** The engine's default for each service that no plugin binds. */
export const engineServices: readonly Binding[] = defaultBindings('engine', (bind) => {
  bind(ModelRunner).to(AnyShapeRunner);
  bind(WeightPolicy).toConstantValue(float32Policy);
  bind(SchedulerPolicy).to(scheduler.FirstComeFirstServed);
  bind(SequencePolicies).to(scheduler.SequencePolicies);
  bind(ModelFiles).to(files.ModelFiles);
  for (const format of checkpointFormats) bind.many(CheckpointFormats).toConstantValue(format);
  for (const format of tokenizerFormats) bind.many(Tokenizers).toConstantValue(format);
  for (const processor of apiLogitsProcessors) bind.many(LogitsProcessors).toConstantValue(processor);
});

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

/** The services of an engine on a platform, in its default mode unless the config names one. */
export function createServices(
  plugins: LoadedPlugins,
  { platform }: Pick<SelectedPlatform, 'platform'>,
  { mode = platform.modes[0]! }: Partial<Pick<EngineConfig, 'mode'>>,
): ServiceContainer {
  return plugins.createEngineContainer({ platform: platform.name, mode, defaults: engineServices });
}

/** Reads a model's files in the formats of an engine on a platform, without an engine. */
export async function readFiles<T>(
  plugins: LoadedPlugins,
  on: Pick<SelectedPlatform, 'platform'>,
  choice: Partial<Pick<EngineConfig, 'mode'>>,
  read: (files: ModelFiles) => Promise<T>,
): Promise<T> {
  await using container = createServices(plugins, on, choice);
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
