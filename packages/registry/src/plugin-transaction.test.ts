import { type Token, token } from '@graft/services';
import { expect, test } from 'vitest';
import { explain } from './explain.ts';
import { loadPlugins } from './load-plugins.ts';
import type { LoadedPlugins } from './loaded-plugins.ts';
import type { ModelClass } from './model.ts';
import { definePlugin, type Plugin, type PluginDeclaration } from './plugin.ts';

interface Named {
  name: string;
}
const Backend = token<Named>('Backend');
const Runner = token<Named>('Runner', 'model');
const Extra = token<Named>('Extra');
const Other = token<Named>('Other');
const ModelExtra = token<Named>('ModelExtra', 'model');
const platform = (name: string) => ({ name, modes: ['compile'], detect: () => 'absent' as const });
const model = async () => class Model {} as ModelClass;
const hook = (architecture: string) => ({ of: architecture, platform: 'hpu', phase: 'init' as const, run() {} });

const core = definePlugin({ name: 'core-model', models: [{ architecture: 'Llama', model }], retired: { OldLlama: { note: 'gone' } } });
const hpu = definePlugin({
  name: 'hpu',
  after: ['core-model'],
  platforms: [platform('hpu')],
  overrides: [{ of: 'Llama', platform: 'hpu', model }],
  hooks: [hook('Llama')],
  bind(bind) {
    bind(Backend).toConstantValue({ name: 'hpu' });
    bind(Runner).toConstantValue({ name: 'runner' });
  },
});
const loadBoth = () => loadPlugins({ graftVersion: '0.1.0', specifiers: [], plugins: [core, hpu] });

/** All that a plugin can change, as an application sees it. */
async function stateOf(loaded: LoadedPlugins) {
  const engine = loaded.createEngineContainer({ platform: 'hpu' });
  const record = loaded.registry.resolve(['Llama'], { platform: 'hpu' });
  const messageOf = (name: string) => {
    try {
      return loaded.registry.resolve([name], { platform: 'hpu' }).architecture;
    } catch (error) {
      return String(error);
    }
  };
  return {
    list: loaded.registry.list(),
    record,
    explained: explain(record),
    unknown: ['New', 'OldLlama', 'OldNew'].map(messageOf),
    bindings: loaded.bindings({ platform: 'hpu' }).map(({ name, owner }) => [name, owner.plugin]),
    services: [await engine.get(Backend), await engine.createModelContainer().get(Runner)],
    hooks: loaded.hooks.map(({ owner, of }) => [owner.plugin, of]),
    platforms: loaded.platforms.map(({ name }) => name),
    plugins: loaded.plugins.map(({ name }) => name),
    records: loaded.records,
  };
}

/** Adds a plugin that fails; gives the error, after making sure that it left nothing. */
async function failToAdd(plugin: Plugin): Promise<{ code?: string; message?: string; cause?: unknown } | null> {
  const loaded = await loadBoth();
  const before = await stateOf(loaded);
  const unhandled: unknown[] = [];
  const listen = (reason: unknown) => unhandled.push(reason);
  process.on('unhandledRejection', listen);
  const error = await loaded.add({ plugin, file: null, specifier: null }).then(
    () => null,
    (thrown: unknown) => thrown as Error,
  );
  await new Promise((resolve) => setImmediate(resolve));
  process.off('unhandledRejection', listen);
  expect(unhandled).toEqual([]);
  if (error !== null) expect(await stateOf(loaded)).toEqual(before);
  return error;
}

/** A plugin of every kind of declaration; `step` is called at each thing that is read of it and at each that it binds. */
function everything(step: () => void, bindAt: (place: number) => Token<Named> | null = () => null): Plugin {
  const bindOr = (place: number, own: Token<Named>) => bindAt(place) ?? own;
  const plugin = definePlugin({
    name: 'bad',
    version: '1.0.0',
    graft: '^0.1.0',
    after: ['core-model', 'hpu'],
    platforms: [platform('npu'), platform('tpu')],
    models: [
      { architecture: 'New', model, capabilities: { images: true } },
      { architecture: 'Newer', model },
    ],
    overrides: [
      { of: 'New', platform: 'hpu', model },
      { of: 'Llama', platform: 'hpu', priority: 2, factory: async () => (Base: never) => Base },
    ],
    hooks: [hook('New'), hook('Llama')],
    retired: { OldNew: { note: 'gone' }, OldLlama: { note: 'gone for good' } },
    async bind(bind) {
      step();
      bind(bindOr(0, Extra)).toConstantValue({ name: 'x' });
      await Promise.resolve();
      step();
      bind(bindOr(1, Other)).toDynamicValue(() => ({ name: 'y' }));
      step();
      bind(bindOr(2, ModelExtra)).toConstantValue({ name: 'z' });
      step();
    },
  });
  return watched({ ...plugin }, step);
}

/** `value`, and all in it, with a call of `step` before each property is read. */
function watched<T extends object>(value: T, step: () => void): T {
  return new Proxy(value, {
    get(target, key, receiver) {
      step();
      const found: unknown = Reflect.get(target, key, receiver);
      return typeof found === 'object' && found !== null ? watched(found, step) : found;
    },
  });
}

function throwAt(n: number): () => void {
  let steps = 0;
  return () => {
    if (steps++ === n) throw new Error(`step ${n}`);
  };
}

test('a plugin that throws at any one of its registration steps leaves everything as before', async () => {
  let total = 0;
  for (;;) {
    const error = await failToAdd(everything(throwAt(total)));
    if (error === null) break; // it has no step of this number
    expect(error).toMatchObject({ code: 'GRAFT_PLUGIN_FAILED', cause: new Error(`step ${total}`) });
    total += 1;
  }
  // Five calls of its own, and the reads of two platforms, models, overrides, hooks and retired names, each of several fields.
  expect(total).toBeGreaterThan(50);
});

test.each([0, 1])('a plugin whose engine binding %i is of a token that is bound already leaves everything as before', async (place) => {
  // A plugin with platforms of its own binds for those only, and would be no rival.
  const { platforms: _, ...plugin } = everything(
    () => {},
    (at) => (at === place ? Backend : null),
  );
  expect(await failToAdd(definePlugin(plugin))).toMatchObject({ code: 'GRAFT_TOKEN_CONFLICT' });
});

test('a plugin whose model binding is of a token that is bound already leaves everything as before', async () => {
  const { platforms: _, ...plugin } = everything(
    () => {},
    (at) => (at === 2 ? Runner : null),
  );
  expect(await failToAdd(definePlugin(plugin))).toMatchObject({ code: 'GRAFT_TOKEN_CONFLICT' });
});

const boom = () => {
  throw new Error('boom');
};
const New = [{ architecture: 'New', model }];
const steps: [string, Partial<PluginDeclaration>, string][] = [
  ['a version range', { graft: '^9.0.0' }, 'GRAFT_PLUGIN_VERSION'],
  ['a plugin that it comes after', { after: ['nobody'] }, 'GRAFT_PLUGIN_MISSING'],
  ['a platform of another contract', { platforms: [{ ...platform('old'), contract: 0 as 1 }] }, 'GRAFT_CONTRACT_VERSION'],
  ['a platform', { platforms: [platform('npu'), platform('hpu')] }, 'GRAFT_PLATFORM_DUPLICATE'],
  ['a model', { models: [...New, { architecture: 'Llama', model }] }, 'GRAFT_ARCHITECTURE_CONFLICT'],
  ['an override', { models: New, overrides: [{ of: 'Llama', platform: 'hpu', model }] }, 'GRAFT_REGISTRATION_CONFLICT'],
  [
    'an override of nothing',
    { retired: { OldNew: { note: 'gone' } }, overrides: [{ of: 'Lama', platform: 'hpu', model }] },
    'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
  ],
  ['a hook for nothing', { models: New, hooks: [hook('New'), hook('Lama')] }, 'GRAFT_OVERRIDE_WITHOUT_UPSTREAM'],
  ['bind', { models: New, bind: boom }, 'GRAFT_PLUGIN_FAILED'],
  ['a bind that rejects', { models: New, bind: async () => boom() }, 'GRAFT_PLUGIN_FAILED'],
  [
    'a token that it binds twice',
    {
      bind(bind) {
        bind(Extra).toConstantValue({ name: 'x' });
        bind(Extra).toConstantValue({ name: 'y' });
      },
    },
    'GRAFT_TOKEN_CONFLICT',
  ],
];

test.each(steps)('a plugin that fails at %s leaves everything as before', async (_, declaration, expected) => {
  expect(await failToAdd(definePlugin({ name: 'bad', ...declaration }))).toMatchObject({ code: expected });
});
