import { architecturesOf, readModelConfig } from '@graft/core-model';
import { type DetectedPlatform, describePlatform, detectPlatform, explain, type LoadedPlugins, type Resolution } from '@graft/registry';
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
): Promise<{ text: string; record: Resolution }> {
  const plugins = await loadEnginePlugins(where, options);
  const asked = await platformToExplain(plugins, platform);
  const resolution = plugins.registry.resolve(
    architectures ?? (model === undefined ? [] : architecturesOf(await readModelConfig(model), model)),
    { platform: asked.platform.name, mode: mode ?? null, device: asked },
  );
  const classes = await plugins.registry.load(resolution);
  await classes.checkContracts();
  const record = classes.resolution;
  return { text: `${explain(record)}\n${describeDevice(asked)}`, record };
}

/** The platform that was named, even if its device is not here: it can be asked about all the same. Without a name, the one that a start would choose. */
export async function platformToExplain(plugins: LoadedPlugins, name: string | undefined): Promise<DetectedPlatform> {
  return detectPlatform(plugins.platforms.find((platform) => platform.name === name) ?? (await plugins.selectPlatform(name)).platform);
}

/** Whether the platform has a device, in its detector's words: `platform "NAME" is emulated: REASON`. */
export function describeDevice({ platform, ...detected }: DetectedPlatform): string {
  return `platform "${platform.name}" ${describePlatform(detected)}`;
}
