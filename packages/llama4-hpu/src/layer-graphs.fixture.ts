import {
  coreModels,
  type LanguageModel,
  type Llama4Config,
  Llama4DecoderLayer,
  type Llama4ForCausalLM,
  Llama4ForConditionalGeneration,
  llama4,
  type ModelContext,
  upstreamContext,
} from '@graft/core-model';
import { captureLanguageModel, graftVersion } from '@graft/engine';
import { CaptureCache, type CapturedModel } from '@graft/graph';
import { type HookRunner, loadPlugins, type Patches, PatchLedger } from '@graft/registry';
import llama4Hpu from './plugin.ts';

/** The published sizes of both models; 48 layers, of which every fourth has no rotation. No weight is ever there. */
const published = {
  Maverick: { interleave_moe_layer_step: 2, num_local_experts: 128, use_qk_norm: false, max_position_embeddings: 1048576 },
  Scout: { interleave_moe_layer_step: 1, num_local_experts: 16, use_qk_norm: true, max_position_embeddings: 10485760 },
};
export type Published = keyof typeof published;

/** A context like that of the published model; `more` replaces keys of its config. */
export function contextOf(
  name: Published,
  more: Record<string, unknown> = {},
  options: Record<string, unknown> = {},
): ModelContext<Llama4Config> {
  const config = llama4.parseConfig({
    vocab_size: 202048,
    hidden_size: 5120,
    intermediate_size: 8192,
    intermediate_size_mlp: 16384,
    num_hidden_layers: 48,
    num_attention_heads: 40,
    num_key_value_heads: 8,
    head_dim: 128,
    attention_chunk_size: 8192,
    ...published[name],
    ...more,
  });
  return upstreamContext('Llama4ForCausalLM', config, { platform: 'hpu', mode: 'compile', maxModelLength: 64, overrideOptions: options });
}

export type Llama4 = Llama4ForCausalLM | Llama4ForConditionalGeneration;
export const architectures = ['Llama4ForCausalLM', 'Llama4ForConditionalGeneration'];

/** Builds what serves an architecture on hpu, as a load does. Its hooks have not run. */
export async function build(
  architecture: string,
  context: ModelContext<Llama4Config>,
  plugins = [coreModels, llama4Hpu],
): Promise<{ model: Llama4; hooks: HookRunner }> {
  const loaded = await loadPlugins({ plugins, specifiers: [], graftVersion });
  const { registry } = loaded;
  const classes = await registry.load<ModelContext<Llama4Config>, Llama4>(registry.resolve([architecture], context));
  const model = await classes.construct({ ...context, architecture, build: classes.build });
  return { model, hooks: await loaded.createHookRunner(classes.resolution) };
}

/** As `build`, then taken through both phases of hooks. */
export async function buildPatched(...args: Parameters<typeof build>): Promise<{ model: Llama4; hooks: HookRunner }> {
  const [, context] = args;
  const { model, hooks } = await build(...args);
  await hooks.run('init', model, context);
  hooks.lifecycle.advance('loaded');
  await hooks.run('postLoad', model, context);
  return { model, hooks };
}

/** Patches a model outside of a hook; the ledger undoes them. */
export function patch(change: (patches: Patches) => void): PatchLedger {
  const ledger = new PatchLedger();
  change(ledger.open({ plugin: 'llama4-hpu', hook: 'test', phase: 'init' }, { pathOf: () => '' }).patches);
  return ledger;
}

export function layersOf(model: Llama4): Llama4DecoderLayer[] {
  const { layers } = model instanceof Llama4ForConditionalGeneration ? model.language_model.model : model.model;
  return [...layers].filter((layer) => layer instanceof Llama4DecoderLayer);
}

/** All that a capture of one shape says; `count` is that of decoder-layer graphs, `reasons` the guards because of which there is more than one. */
export function captureLayers(model: LanguageModel): { captured: CapturedModel; count: number; reasons: string[] } {
  const cache = new CaptureCache();
  const captured = captureLanguageModel(model, cache);
  const reasons = new Set(cache.recompiles.flatMap(({ failures }) => failures.map(({ path }) => path)));
  return { captured, count: cache.count('decoder-layer'), reasons: [...reasons].sort() };
}
