import type { EventBus } from '@graft/common';
import { coreModels } from '@graft/core-model';
import { type LoadedPlugins, loadPlugins, type Plugin, type PluginRecord } from '@graft/registry';
import { type EngineConfig, graftVersion } from './config.ts';
import type { EngineEvents, LoadProgress } from './engine.ts';

export interface StartOptions {
  onProgress?: (progress: LoadProgress) => void;
  /** Gets the engine's events, also from a worker. */
  events?: EventBus<EngineEvents>;
  signal?: AbortSignal;
  /** The plugins of an application whose package.json lists none, and where they are resolved from. */
  defaultPlugins?: readonly string[];
  defaultPluginsFrom?: string;
  /** Loaded before the plugins that are found. They cannot cross into a worker, which must find them itself. */
  pluginsInCode?: readonly Plugin[];
  /** The plugins that the starting thread found. A start that finds others is refused. */
  expectedPlugins?: readonly PluginRecord[];
}

/** The upstream models and the application's plugins. */
export function loadEnginePlugins(
  { app, plugins, allowPlugins }: Pick<EngineConfig, 'app' | 'plugins' | 'allowPlugins'>,
  { defaultPlugins, defaultPluginsFrom, pluginsInCode = [] }: StartOptions,
): Promise<LoadedPlugins> {
  return loadPlugins({
    plugins: [coreModels, ...pluginsInCode],
    graftVersion,
    ...(app !== undefined && { from: app }),
    ...(plugins !== undefined && { specifiers: plugins }),
    ...(allowPlugins !== undefined && { allow: allowPlugins }),
    ...(defaultPlugins !== undefined && { defaults: defaultPlugins }),
    ...(defaultPluginsFrom !== undefined && { defaultsFrom: defaultPluginsFrom }),
  });
}
