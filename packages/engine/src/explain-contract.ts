import type { LanguageModel } from '@graft/core-model';
import { type ClassContract, contractText, describeContract, type LoadedPlugins } from '@graft/registry';
import type { EngineConfig } from './config.ts';
import { buildModel } from './load-model.ts';
import { openConfig } from './model-source.ts';
import { loadEnginePlugins, type StartOptions } from './start-engine.ts';

export interface ExplainContractOptions extends Partial<Pick<EngineConfig, 'app' | 'plugins' | 'allowPlugins'>> {
  /** An architecture, or a class of an upstream manifest. */
  className: string;
  /** A checkpoint: the parameters of the architecture's model are then listed too. No weight is read. */
  model?: string;
}

/**
 * What an override may rely on of an upstream class: as TypeScript to paste (`reliesOn`), and as data.
 * @throws UnknownClassError with the nearest names; for `model`, what opening a checkpoint throws.
 */
export async function explainContract(
  { className, model, ...where }: ExplainContractOptions,
  options: StartOptions = {},
): Promise<{ text: string; record: ClassContract }> {
  const plugins = await loadEnginePlugins(where, options);
  const build = model === undefined ? undefined : (architecture: string) => buildUpstream(plugins, architecture, model);
  const record = await describeContract(plugins, className, build);
  return { text: contractText(record), record };
}

/** Without storage: its parameters have names and shapes. */
async function buildUpstream(plugins: LoadedPlugins, architecture: string, path: string): Promise<LanguageModel> {
  const platform = { name: 'upstream', modes: ['none'], detect: () => 'absent' as const };
  const detected = { platform, device: 'absent' as const, reason: '', properties: {} };
  const options = { plugins, platform: detected, config: { architecture }, without: 'overrides' as const };
  return (await buildModel(options, await openConfig(path))).model;
}
