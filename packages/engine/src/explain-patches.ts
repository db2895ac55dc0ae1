import { explain, explainHooks, type HookRunnerRecord, type Resolution } from '@graft/registry';
import { describeDevice, type PlatformChoice, platformToExplain } from './explain-architecture.ts';
import { buildModel, type ModelChoice, markReads } from './load-model.ts';
import { openConfig, readAsText } from './model-source.ts';
import { loadEnginePlugins, type StartOptions } from './start-engine.ts';

export interface ExplainPatchesOptions extends PlatformChoice, ModelChoice {
  /** A checkpoint folder, in which config.json is enough, or a .gguf file. */
  model: string;
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
  asked: ExplainPatchesOptions,
  options: StartOptions = {},
): Promise<{ text: string; record: PatchesRecord }> {
  const plugins = await loadEnginePlugins(asked, options);
  const platform = await platformToExplain(plugins, asked.platform);
  const built = await buildModel({ plugins, platform, config: asked }, await openConfig(asked.model));
  const { resolution, hooks, model, readAs } = built;
  markReads(built);
  const ran = hooks.toJSON();
  const planned = await hooks.plan('postLoad', model);
  const record = { resolution, ...ran, hooks: [...ran.hooks, ...planned] };
  const text = [explain(resolution), ...readAsText(readAs), describeDevice(platform), explainHooks(record)].join('\n');
  return { text, record };
}
