// An override of one layer serves every model that builds the layer: two families of core-model, and one from outside.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  coreModels,
  type LanguageModel,
  type ModelConfig,
  type ModelContext,
  type ModelFamily,
  RmsNorm,
  upstreamContext,
} from '@graft/core-model';
import { graftVersion } from '@graft/engine';
import type { Tensor } from '@graft/graph';
import {
  definePlugin,
  explain,
  HookRunner,
  loadPlugins,
  type OverrideDeclaration,
  type Patches,
  type Plugin,
  type PluginDeclaration,
} from '@graft/registry';
import { expect, test } from 'vitest';
import { newProject } from './new-project.fixture.ts';

/** A Qwen3 under a name of its own. */
const { default: myModel } = (await import(pathToFileURL(join(newProject('model'), 'src/plugin.ts')).href)) as { default: Plugin };

const platform = 'npu';
const mode = 'full';
const npu = definePlugin({ name: 'npu', platforms: [{ name: platform, modes: [mode], detect: () => 'absent' }] });
const layers = 2;

/** How many RmsNorms a model of two layers has: two a layer and the last one. Qwen3 has two more in each attention. */
const normsOf: [architecture: string, count: number][] = [
  ['Llama4ForCausalLM', 2 * layers + 1],
  ['LlamaForCausalLM', 2 * layers + 1],
  ['MyModelForCausalLM', 4 * layers + 1],
];

class FastNorm extends RmsNorm {}
class FasterNorm extends RmsNorm {}
const ofNorm = (more: Partial<OverrideDeclaration> = {}) =>
  ({ of: 'RmsNorm', platform, model: async () => FastNorm, ...more }) as OverrideDeclaration;
const stacked = (name: string, priority: number) => {
  const factory = async () => (Base: typeof RmsNorm) => ({ [name]: class extends Base {} })[name]!;
  return { of: 'RmsNorm', platform, priority, factory } as OverrideDeclaration;
};

async function load(overrides: OverrideDeclaration[], more: Partial<PluginDeclaration> = {}) {
  const vendor = definePlugin({ name: 'vendor', after: ['core-model', 'my-model'], overrides, ...more });
  return loadPlugins({ plugins: [coreModels, myModel, npu, vendor], specifiers: [], graftVersion });
}

/** A small model of an architecture, with the plugin's overrides, and what `explain` says of it. */
async function build(architecture: string, overrides: OverrideDeclaration[], more: Partial<PluginDeclaration> = {}) {
  const plugins = await load(overrides, more);
  const { registry } = plugins;
  const classes = await registry.load<ModelContext, LanguageModel, ModelFamily<ModelConfig>>(
    registry.resolve([architecture], { platform, mode }),
  );
  const config = classes.family!.parseConfig(classes.family!.small(layers)[architecture]!);
  const context = upstreamContext(architecture, config, { platform, mode, build: classes.build });
  const model = await classes.construct(context);
  const norms = [...model.namedModules()].flatMap(([, module]) => (module instanceof RmsNorm ? [module] : []));
  return { classes, model, context, norms, hooks: plugins.hooks, text: explain(classes.resolution) };
}

test.each(normsOf)('one declaration replaces every RmsNorm of %s, and explain counts the %i instances', async (architecture, count) => {
  const { norms, text } = await build(architecture, [ofNorm()]);
  expect(norms.map((norm) => norm.constructor)).toEqual(new Array(count).fill(FastNorm));
  expect(text).toContain(`FastNorm replaced ${count} instances`);
});

test.each(normsOf)('two factories stack in %s, the higher priority on top', async (architecture, count) => {
  const { norms, text } = await build(architecture, [stacked('Upper', 1), stacked('Lower', 0)]);
  expect(norms).toHaveLength(count);
  for (const norm of norms) {
    const Lower: unknown = Object.getPrototypeOf(norm.constructor);
    expect([norm.constructor.name, (Lower as { name: string }).name, Object.getPrototypeOf(Lower)]).toEqual(['Upper', 'Lower', RmsNorm]);
  }
  expect(text).toContain(`Upper replaced ${count} instances`);
});

test('two overrides of one priority conflict, and the error names both plugins', async () => {
  const other = definePlugin({ name: 'other', after: ['vendor'], overrides: [ofNorm({ model: async () => FasterNorm } as object)] });
  const vendor = definePlugin({ name: 'vendor', after: ['core-model'], overrides: [ofNorm()] });
  const loading = loadPlugins({ plugins: [coreModels, npu, vendor, other], specifiers: [], graftVersion });
  await expect(loading).rejects.toMatchObject({ code: 'GRAFT_REGISTRATION_CONFLICT', where: expect.stringMatching(/"vendor".*"other"/) });
});

test('a scope keeps an override inside the models and layers that it names', async () => {
  const counts = async (within: string[]) =>
    Promise.all(
      normsOf.map(async ([architecture]) => {
        const { norms } = await build(architecture, [ofNorm({ within })]);
        return norms.filter((norm) => norm instanceof FastNorm).length;
      }),
    );
  expect(await counts(['MyModelForCausalLM'])).toEqual([0, 0, 4 * layers + 1]);
  expect(await counts(['MyModelAttention'])).toEqual([0, 0, 2 * layers]);
  expect(await counts(['LlamaDecoderLayer', 'Llama4ForCausalLM'])).toEqual([2 * layers + 1, 2 * layers, 0]);
});

test('a target that no plugin declares is an error with the nearest names, and nothing was imported', async () => {
  let isImported = false;
  const model = async () => {
    isImported = true;
    return FastNorm;
  };
  await expect(load([ofNorm({ of: 'RmsNrm', model } as object)])).rejects.toMatchObject({
    code: 'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
    what: expect.stringContaining('"RmsNrm"'),
    fix: expect.stringContaining('nearest: "RmsNorm"'),
  });
  expect(isImported).toBe(false);
});

test('a required override is an error in the models that do not build its target, and serves in the one that does', async () => {
  const required = {
    of: 'MyModelAttention',
    platform,
    required: true,
    factory: async () => (Base: typeof RmsNorm) => class extends Base {},
  };
  for (const architecture of ['Llama4ForCausalLM', 'LlamaForCausalLM'])
    await expect(build(architecture, [required as OverrideDeclaration])).rejects.toMatchObject({
      code: 'GRAFT_OVERRIDE_UNUSED',
      where: expect.stringContaining('"vendor"'),
    });
  const { text } = await build('MyModelForCausalLM', [required as OverrideDeclaration]);
  expect(text).toContain(`replaced ${layers} instances`);
});

test.each(normsOf)(
  'a hook on overridden norms of %s is undone and run again by a reload, and undone for good',
  async (architecture, count) => {
    function forward(x: Tensor): Tensor {
      return x;
    }
    const hook = {
      of: 'RmsNorm',
      platform,
      phase: 'postLoad' as const,
      reload: 'undo-redo' as const,
      run: (norm: RmsNorm, _context: unknown, patches: Patches) => patches.replaceMethod(norm, 'forward', forward),
    };
    const { classes, model, context, norms, hooks } = await build(architecture, [ofNorm()], { hooks: [hook] });
    const patched = () => norms.filter((norm) => Object.hasOwn(norm, 'forward')).length;
    const runner = new HookRunner(classes.resolution, hooks);
    await runner.run('init', model, context);
    runner.lifecycle.advance('loaded');
    await runner.run('postLoad', model, context);
    expect(patched()).toBe(count);

    const parameters = [...model.namedParameters()].map(([name]) => name);
    runner.lifecycle.advance('ready');
    let whileApplied = -1;
    const reload = await runner.reload(model, context, () => void (whileApplied = patched()));
    expect([whileApplied, patched(), reload.hooks.map(({ outcome }) => outcome)]).toEqual([0, count, ['undone and ran again']]);
    reload[Symbol.dispose](); // not kept: as before the reload
    expect([patched(), runner.ledger.toJSON().length, runner.lifecycle.state]).toEqual([count, count, 'ready']);
    using again = await runner.reload(model, context, () => undefined);
    runner.ledger.undoTo(0);
    expect([patched(), [...model.namedParameters()].map(([name]) => name)]).toEqual([0, parameters]);
    expect(norms.every((norm) => norm.constructor === FastNorm)).toBe(true);
    expect(again.hooks).toHaveLength(1);
  },
);
