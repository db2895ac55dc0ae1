import { type LanguageModel, type ModelContext, openCheckpoint, parseLlama4Config } from '@graft/core-model';
import { type ClassContract, contractText, describeContract, type LoadedPlugins } from '@graft/registry';
import type { EngineConfig } from './config.ts';
import { contextOf } from './load-model.ts';
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
async function buildUpstream({ registry }: LoadedPlugins, architecture: string, path: string): Promise<LanguageModel> {
  const checkpoint = await openCheckpoint(path);
  try {
    const config = parseLlama4Config(checkpoint.config, { where: path });
    const platform = { name: 'upstream', modes: ['none'], detect: () => 'absent' as const };
    const classes = await registry.load<ModelContext, LanguageModel>(registry.upstreamOf(architecture));
    const context = { ...contextOf(config, { platform }, {}), build: classes.build };
    return classes.build(classes.Model, context);
  } finally {
    checkpoint.close();
  }
}
