import { messageOf } from '@graft/common';
import { architecturesOf, readModelConfig } from '@graft/core-model';
import { explain, type LoadedPlugins, type Platform, type ResolutionRecord } from '@graft/registry';
import type { EngineConfig } from './config.ts';
import { loadEnginePlugins, type StartOptions } from './start-engine.ts';

/** Where the plugins are, and the platform that is asked about. */
export type PlatformChoice = Partial<Pick<EngineConfig, 'app' | 'plugins' | 'allowPlugins' | 'platform'>>;

export interface ExplainArchitectureOptions extends PlatformChoice, Partial<Pick<EngineConfig, 'mode'>> {
  /** As in config.json: the first that is registered is taken. Default: those of `model`. */
  architectures?: readonly string[];
  /** A checkpoint folder, in which config.json is enough, or a .gguf file. */
  model?: string;
}

/** Which class would serve an architecture and why, with no model built. Model code is imported, so that classes have names. */
export async function explainArchitecture(
  { architectures, model, platform, mode, ...where }: ExplainArchitectureOptions,
  options: StartOptions = {},
): Promise<{ text: string; record: ResolutionRecord }> {
  const plugins = await loadEnginePlugins(where, options);
  const asked = await platformToExplain(plugins, platform);
  const resolution = plugins.registry.resolve(
    architectures ?? (model === undefined ? [] : architecturesOf(await readModelConfig(model), model)),
    { platform: asked.name, ...(mode !== undefined && { mode }) },
  );
  await resolution.load();
  await resolution.checkContracts();
  const record = resolution.toJSON();
  return { text: `${explain(record)}\n${await describeDevice(asked)}`, record };
}

/** The platform that was named, even if its device is not here: it can be asked about all the same. Without a name, the one that a start would choose. */
export async function platformToExplain(plugins: LoadedPlugins, name: string | undefined): Promise<Platform> {
  return plugins.platforms.find((platform) => platform.name === name) ?? (await plugins.selectPlatform(name)).platform;
}

/** Whether the platform has a device, in its detector's words: `platform "NAME" is emulated: REASON`. */
export async function describeDevice(platform: Platform): Promise<string> {
  try {
    const answer = await platform.detect();
    const { device, reason } = typeof answer === 'string' ? { device: answer, reason: undefined } : answer;
    return `platform "${platform.name}" is ${device}${reason === undefined ? '' : `: ${reason}`}`;
  } catch (error) {
    return `platform "${platform.name}" could not be detected: ${messageOf(error)}`;
  }
}
