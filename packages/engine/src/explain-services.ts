import { type Binding, type ServiceRecord, servicesText } from '@graft/registry';
import { engineServices } from './default-services.ts';
import { describeDevice, type PlatformChoice, platformToExplain } from './explain-architecture.ts';
import { modeOf } from './load-model.ts';
import { loadEnginePlugins, type StartOptions } from './start-engine.ts';

export interface ExplainServicesOptions extends PlatformChoice {
  mode?: string;
  /** Of an application around the engine. */
  defaults?: readonly Binding[];
}

/** Who binds each service of an engine, and what it is injected into. Nothing is built. */
export async function explainServices(
  asked: ExplainServicesOptions,
  options: StartOptions = {},
): Promise<{ text: string; record: ServiceRecord[] }> {
  const plugins = await loadEnginePlugins(asked, options);
  const device = await platformToExplain(plugins, asked.platform);
  const defaults = [...engineServices, ...(asked.defaults ?? [])];
  const record = await plugins.describeServices({ platform: device.platform.name, mode: modeOf(device, asked), defaults });
  return { text: [servicesText(record), describeDevice(device)].join('\n'), record };
}
