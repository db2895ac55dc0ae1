import type { ModelFamily } from '@graft/core-model';
import { assertSamePluginSet, type LoadedPlugins, pluginRecord } from '@graft/registry';
import type { EngineConfig } from '../config.ts';
import { openModel, readFiles } from '../default-services.ts';
import { PluginInCodeError } from '../errors.ts';
import { servesImages } from '../load-model.ts';
import { readSource } from '../model-source.ts';
import { loadEnginePlugins, type StartOptions } from '../start-engine.ts';
import type { ModelFiles } from '../tokens.ts';
import type { WorkerStart } from './protocol.ts';

/**
 * What a worker starts with, once the plugins are found and the model's files and config are known to be right.
 * @throws PluginInCodeError, PluginSetsDifferError, and the errors of `LlmEngine.start` up to the model's config.
 */
export async function checkStart(
  config: EngineConfig,
  { pluginsInCode = [], defaultPlugins, defaultPluginsFrom }: StartOptions,
): Promise<WorkerStart> {
  const defaults = { ...(defaultPlugins && { defaultPlugins }), ...(defaultPluginsFrom && { defaultPluginsFrom }) };
  const plugins = await loadEnginePlugins(config, defaults);
  const found = new Map(plugins.records.map((record) => [record.name, record]));
  const missing = pluginsInCode.filter(({ name }) => !found.has(name));
  if (missing.length > 0) throw new PluginInCodeError(missing.map(({ name }) => name));
  assertSamePluginSet(
    pluginsInCode.map(pluginRecord),
    pluginsInCode.map(({ name }) => found.get(name)!),
  );
  await checkModel(plugins, config);
  return { config, expectedPlugins: plugins.records, ...defaults };
}

/** Refuses a model that no platform in question would take. Platforms are not asked for their devices: the worker does that, once. */
async function checkModel(plugins: LoadedPlugins, config: EngineConfig): Promise<void> {
  const refusals: unknown[] = [];
  for (const platform of plugins.platforms.filter(({ name }) => [undefined, name].includes(config.platform))) {
    try {
      return await readFiles(plugins, { platform }, config, (files) => readConfig(plugins, files, config));
    } catch (error) {
      refusals.push(error);
    }
  }
  if (refusals.length > 0) throw refusals[0];
}

async function readConfig(plugins: LoadedPlugins, files: ModelFiles, config: EngineConfig): Promise<void> {
  const { registry } = plugins;
  using checkpoint = await openModel(plugins, files, config);
  const { architectures, raw } = await readSource(registry, checkpoint, config.architecture);
  const upstream = registry.resolve(architectures, { platform: null });
  const images = servesImages(config, upstream);
  const family: Partial<ModelFamily> | undefined = (await registry.families<ModelFamily>()).get(upstream.architecture);
  family?.parseConfig?.(raw, { where: checkpoint.path, overrides: config.configOverrides, images });
}
