import { readModelConfig } from '@graft/core-model';
import { explain, explainHooks, type HookRunnerRecord, type Resolution } from '@graft/registry';
import type { EngineConfig } from './config.ts';
import { describeDevice, type PlatformChoice, platformToExplain } from './explain-architecture.ts';
import { buildModel } from './load-model.ts';
import { loadEnginePlugins, type StartOptions } from './start-engine.ts';

export interface ExplainPatchesOptions extends PlatformChoice, Partial<Pick<EngineConfig, 'mode' | 'configOverrides' | 'overrideOptions'>> {
  /** A checkpoint folder, in which config.json is enough, or a .gguf file. */
  model: string;
  /** Instead of those in the model's config. */
  architectures?: readonly string[];
}

/** `explain --patches --json`. */
export interface PatchesRecord extends HookRunnerRecord {
  readonly resolution: Resolution;
}

/**
 * What the hooks of a model do to it: the model is built from its config, its init hooks run, and the ledger tells each change. Post-load hooks need
 * weights, so they are named and not run.
 * @throws what reading the config, resolving, building and the init hooks end in.
 */
export async function explainPatches(
  { model: path, architectures, mode, configOverrides = {}, overrideOptions = {}, ...where }: ExplainPatchesOptions,
  options: StartOptions = {},
): Promise<{ text: string; record: PatchesRecord }> {
  const plugins = await loadEnginePlugins(where, options);
  const platform = await platformToExplain(plugins, where.platform);
  const overrides = { ...configOverrides, ...(architectures !== undefined && { architectures }) };
  const config = { configOverrides: overrides, overrideOptions, ...(mode !== undefined && { mode }) };
  const source = { path, config: await readModelConfig(path) };
  const { resolution, hooks, model } = await buildModel({ plugins, platform, config }, source);
  const ran = hooks.toJSON();
  const planned = await hooks.plan('postLoad', model);
  const record = { resolution, ...ran, hooks: [...ran.hooks, ...planned] };
  const text = [explain(record.resolution), describeDevice(platform), explainHooks(record)].join('\n');
  return { text, record };
}
