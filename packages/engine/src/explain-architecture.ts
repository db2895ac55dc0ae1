import { explain, type ResolutionRecord, selectPlatform } from '@graft/registry';
import type { EngineConfig } from './config.ts';
import { loadEnginePlugins, type StartEngine } from './llm-engine.ts';

export interface ExplainArchitecture extends Partial<Pick<EngineConfig, 'app' | 'plugins' | 'allowPlugins' | 'platform' | 'mode'>> {
  /** As in config.json: the first that is registered is taken. */
  architectures: readonly string[];
}

/** Which class would serve an architecture and why, with no model built. Model code is imported, so that classes have names. */
export async function explainArchitecture(
  { architectures, platform, mode, ...where }: ExplainArchitecture,
  options: StartEngine = {},
): Promise<{ text: string; record: ResolutionRecord }> {
  const plugins = await loadEnginePlugins(where, options);
  const known = plugins.platforms.some(({ name }) => name === platform);
  // A platform whose device is not here can be asked about all the same.
  const name = known ? platform! : (await selectPlatform(plugins.platforms, platform)).platform.name;
  const resolution = plugins.registry.resolve(architectures, { platform: name, ...(mode !== undefined && { mode }) });
  await resolution.load();
  await resolution.checkContracts();
  const record = resolution.toJSON();
  return { text: explain(record), record };
}
