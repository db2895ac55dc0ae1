import { type DetectedPlatform, describePlatform, detectPlatform, explain, type LoadedPlugins, type Resolution } from '@graft/registry';
import type { EngineConfig } from './config.ts';
import { type ModelChoice, modeOf } from './load-model.ts';
import { openConfig, readAsText, readSource } from './model-source.ts';
import { loadEnginePlugins, type StartOptions } from './start-engine.ts';

/** Where the plugins are, and the platform that is asked about. */
export type PlatformChoice = Partial<Pick<EngineConfig, 'app' | 'plugins' | 'allowPlugins' | 'platform'>>;

export interface ExplainArchitectureOptions
  extends PlatformChoice,
    Pick<ModelChoice, 'mode' | 'architecture' | 'without' | 'requireOverride'> {
  /** As in config.json: the first that is registered is taken. Default: those of `model`. */
  architectures?: readonly string[];
  /** A checkpoint folder, in which config.json is enough, or a .gguf file. */
  model?: string;
}

/** Which classes would serve an architecture and why, with no model built. Model code is imported, so that classes have names. */
export async function explainArchitecture(
  asked: ExplainArchitectureOptions,
  options: StartOptions = {},
): Promise<{ text: string; record: Resolution }> {
  const { without = [], requireOverride = false } = asked;
  const plugins = await loadEnginePlugins(asked, options);
  const { registry } = plugins;
  const device = await platformToExplain(plugins, asked.platform);
  const mode = asked.mode === undefined ? null : modeOf(device, asked);
  const source = asked.model === undefined ? null : await readSource(registry, await openConfig(asked.model), asked.architecture);
  const architectures = asked.architectures ?? source?.architectures ?? [];
  const resolution = registry.resolve(architectures, { platform: device.platform.name, mode, device, without, requireOverride });
  const classes = await registry.load(resolution);
  await classes.checkContracts();
  const record = classes.resolution;
  return { text: [explain(record), ...readAsText(source?.readAs ?? null), describeDevice(device)].join('\n'), record };
}

/** The platform that was named, even if its device is not here: it can be asked about all the same. Without a name, the one that a start would choose. */
export async function platformToExplain(plugins: LoadedPlugins, name: string | undefined): Promise<DetectedPlatform> {
  return detectPlatform(plugins.platforms.find((platform) => platform.name === name) ?? (await plugins.selectPlatform(name)).platform);
}

/** Whether the platform has a device, in its detector's words: `platform "NAME" is emulated: REASON`. */
export function describeDevice({ platform, ...detected }: DetectedPlatform): string {
  return `platform "${platform.name}" ${describePlatform(detected)}`;
}
