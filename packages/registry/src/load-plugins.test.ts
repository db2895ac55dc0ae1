import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { ServiceIdentifier } from 'inversify';
import { afterAll, expect, test } from 'vitest';
import { explain } from './explain.ts';
import { type LoadPluginsOptions, loadPlugins } from './load-plugins.ts';
import type { ModelClass } from './model.ts';
import { definePlugin, type PluginDeclaration } from './plugin.ts';
import { assertSamePluginSet } from './plugin-set.ts';
import { token } from './tokens.ts';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });
const graftVersion = '0.1.0';
const load = (options: Partial<LoadPluginsOptions>) => loadPlugins({ graftVersion, specifiers: [], ...options });
const model = async () => class Model {} as ModelClass;
const core = definePlugin({ name: 'core-model', models: [{ architecture: 'Llama', model }] });

// Inside dist, which git, the linter and the compiler leave alone, and where vitest still reads TypeScript.
const dist = fileURLToPath(new URL('../dist/', import.meta.url));
mkdirSync(dist, { recursive: true });
const root = mkdtempSync(join(dist, 'fixture-'));
afterAll(() => rmSync(root, { recursive: true }));

/** An application's directory with these files. */
function application(name: string, files: Record<string, string | object>): string {
  for (const [path, content] of Object.entries(files)) {
    const file = join(root, name, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  }
  return join(root, name);
}
const indexUrl = new URL('./index.ts', import.meta.url).href;
const pluginSource = (declaration: object) =>
  `import { definePlugin } from '${indexUrl}';\nexport default definePlugin(${JSON.stringify(declaration)});\n`;
const urlOf = (directory: string, path: string) => pathToFileURL(join(directory, path)).href;

test('plugins are found through the nearest package.json, by path and by package name, each with its file', async () => {
  const app = application('found', {
    'package.json': { name: 'app', graft: { plugins: ['./mine.ts', 'their-plugin', '@scope/other/plugin'] } },
    'mine.ts': pluginSource({ name: 'mine' }),
    'deep/down/here.txt': '',
    'node_modules/their-plugin/package.json': {
      name: 'their-plugin',
      exports: { '.': { '@graft/source': './src.ts', default: './missing.js' } },
    },
    'node_modules/their-plugin/src.ts': pluginSource({ name: 'theirs', version: '2.0.0' }),
    'node_modules/@scope/other/package.json': { name: '@scope/other', exports: { './plugin': { import: { default: './plugin.ts' } } } },
    'node_modules/@scope/other/plugin.ts': pluginSource({ name: 'other', after: ['theirs'] }),
  });
  const loaded = await loadPlugins({ graftVersion, from: join(app, 'deep/down') });
  expect(loaded.plugins.map(({ name, version, file, specifier }) => [name, version, file, specifier])).toEqual([
    ['mine', null, urlOf(app, 'mine.ts'), './mine.ts'],
    ['theirs', '2.0.0', urlOf(app, 'node_modules/their-plugin/src.ts'), 'their-plugin'],
    ['other', null, urlOf(app, 'node_modules/@scope/other/plugin.ts'), '@scope/other/plugin'],
  ]);
});

test('an application that lists none gets the defaults, resolved from where the caller says', async () => {
  const app = application('none', { 'package.json': { name: 'app' } });
  const server = application('server', { 'package.json': { name: 'server' }, 'cpu.ts': pluginSource({ name: 'cpu' }) });
  const loaded = await loadPlugins({ graftVersion, from: app, defaults: ['./cpu.ts'], defaultsFrom: server });
  expect(loaded.plugins.map(({ name }) => name)).toEqual(['cpu']);
});

test('a plugin is found by file URL, the form that crosses to a worker', async () => {
  const app = application('url', { 'cpu.ts': pluginSource({ name: 'cpu' }) });
  const loaded = await load({ specifiers: [urlOf(app, 'cpu.ts')] });
  expect(loaded.plugins[0]).toMatchObject({ name: 'cpu', file: urlOf(app, 'cpu.ts') });
});

test('a module that is no plugin, throws, is missing or declares nonsense is named with its file', async () => {
  const app = application('broken', {
    'package.json': { name: 'app' },
    'none.ts': 'export const plugin = 1;',
    'throws.ts': 'throw new Error("no driver");',
    'nameless.ts': pluginSource({}),
    'plain.txt': '',
  });
  const from = (specifier: string) => load({ from: app, specifiers: [specifier] });
  await expect(from('./none.ts')).rejects.toThrow(code('GRAFT_NOT_A_PLUGIN', { where: urlOf(app, 'none.ts') }));
  await expect(from('./throws.ts')).rejects.toThrow(
    code('GRAFT_MODULE_FAILED', { what: expect.stringContaining('no driver'), where: urlOf(app, 'throws.ts') }),
  );
  await expect(from('./nameless.ts')).rejects.toThrow(
    code('GRAFT_PLUGIN_INVALID', { where: expect.stringContaining(urlOf(app, 'nameless.ts')) }),
  );
  await expect(from('./missing.ts')).rejects.toThrow(code('GRAFT_PLUGIN_NOT_FOUND', { what: expect.stringContaining('./missing.ts') }));
  await expect(from('no-such-package')).rejects.toThrow(
    code('GRAFT_PLUGIN_NOT_FOUND', { what: expect.stringContaining('no-such-package') }),
  );
});

test('a package.json that cannot be read is named', async () => {
  const app = application('bad-json', { 'package.json': '{ "graft": { "plugins": "cpu" } }' });
  await expect(loadPlugins({ graftVersion, from: app })).rejects.toThrow(
    code('GRAFT_PACKAGE_INVALID', { where: join(app, 'package.json'), what: expect.stringContaining('graft.plugins') }),
  );
});

test('the allow list keeps what it names; an unknown name is an error with those found; empty means none', async () => {
  const app = application('allow', {
    'package.json': { name: 'app', graft: { plugins: ['./a.ts', './b.ts'] } },
    'a.ts': pluginSource({ name: 'a' }),
    'b.ts': pluginSource({ name: 'b' }),
  });
  const names = async (allow: string[] | undefined) =>
    (await loadPlugins({ graftVersion, from: app, plugins: [core], allow })).plugins.map(({ name }) => name);
  expect(await names(undefined)).toEqual(['core-model', 'a', 'b']);
  expect(await names(['b'])).toEqual(['core-model', 'b']);
  expect(await names([])).toEqual(['core-model']);
  await expect(names(['c'])).rejects.toThrow(
    code('GRAFT_UNKNOWN_PLUGIN', {
      what: expect.stringContaining('"c"'),
      fix: expect.stringContaining('found: "core-model", "a" and "b"'),
    }),
  );
});

test('plugins load in the order of "after", otherwise as listed', async () => {
  const plugins = [definePlugin({ name: 'c', after: ['b'] }), definePlugin({ name: 'a' }), definePlugin({ name: 'b', after: ['a'] })];
  expect((await load({ plugins })).plugins.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
});

test('a cycle is named, and a plugin that is waited for and missing too', async () => {
  const cycle = [
    definePlugin({ name: 'a', after: ['b'] }),
    definePlugin({ name: 'b', after: ['c'] }),
    definePlugin({ name: 'c', after: ['a'] }),
  ];
  await expect(load({ plugins: cycle })).rejects.toThrow(
    code('GRAFT_PLUGIN_CYCLE', { what: 'Plugins wait for each other: a after b after c after a.' }),
  );
  await expect(load({ plugins: [definePlugin({ name: 'a', after: ['core-model'] })] })).rejects.toThrow(
    code('GRAFT_PLUGIN_MISSING', { what: expect.stringContaining('"core-model"'), where: 'plugin "a" (passed in code)' }),
  );
});

test('a plugin made for another version of Graft is refused', async () => {
  expect((await load({ plugins: [definePlugin({ name: 'a', graft: '^0.1.0' })] })).plugins).toHaveLength(1);
  await expect(load({ plugins: [definePlugin({ name: 'a', graft: '^0.2.0' })] })).rejects.toThrow(
    code('GRAFT_PLUGIN_VERSION', { what: 'It works with Graft ^0.2.0, and this is Graft 0.1.0.' }),
  );
  await expect(load({ plugins: [definePlugin({ name: 'a', graft: 'next week' })] })).rejects.toThrow(/not a semver range/);
});

interface Named {
  name: string;
}
const Backend: ServiceIdentifier<Named> = token('Backend', 'engine');
const Runner: ServiceIdentifier<Named> = token('Runner', 'model');
const Extra: ServiceIdentifier<Named> = token('Extra', 'engine');
const platform = (name: string) => ({ name, modes: ['compile'], detect: () => 'absent' as const });

test('a platform’s plugin binds for its platform only; a plugin without platforms binds for all', async () => {
  const vendor = (name: string) =>
    definePlugin({
      name,
      platforms: [platform(name)],
      bindEngine: (engine) => engine.bind(Backend).toDynamicValue(() => ({ name })),
      bindModel: (container) => container.bind(Runner).toDynamicValue((services) => ({ name: `runner on ${services.get(Backend).name}` })),
    });
  const extra = definePlugin({ name: 'extra', bindEngine: (engine) => engine.bind(Extra).toConstantValue({ name: 'extra' }) });
  const loaded = await load({ plugins: [vendor('cpu'), vendor('hpu'), extra] });
  const engine = loaded.createEngineContainer({ platform: 'hpu' });
  expect(engine.describe().map(({ token: name, plugin }) => [name, plugin])).toEqual([
    ['Backend', 'hpu'],
    ['Extra', 'extra'],
  ]);
  expect(engine.createModelContainer().get(Runner).name).toBe('runner on hpu');
  expect(engine.get(Extra).name).toBe('extra');
  expect(() => loaded.createEngineContainer()).toThrow(code('GRAFT_TOKEN_CONFLICT'));
});

const boom = () => {
  throw new Error('boom');
};
const steps: [string, Partial<PluginDeclaration>, string][] = [
  ['a version range', { graft: '^9.0.0' }, 'GRAFT_PLUGIN_VERSION'],
  ['a plugin that it comes after', { after: ['nobody'] }, 'GRAFT_PLUGIN_MISSING'],
  ['a platform', { platforms: [platform('hpu')] }, 'GRAFT_PLATFORM_DUPLICATE'],
  [
    'a model',
    {
      models: [
        { architecture: 'New', model },
        { architecture: 'Llama', model },
      ],
    },
    'GRAFT_ARCHITECTURE_CONFLICT',
  ],
  [
    'an override',
    { models: [{ architecture: 'New', model }], overrides: [{ architecture: 'Llama', platform: 'hpu', model }] },
    'GRAFT_REGISTRATION_CONFLICT',
  ],
  [
    'an override of nothing',
    { retired: { Old: { note: 'gone' } }, overrides: [{ architecture: 'Lama', platform: 'hpu', model }] },
    'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
  ],
  ['bindEngine', { models: [{ architecture: 'New', model }], bindEngine: boom }, 'GRAFT_PLUGIN_FAILED'],
  ['a bindEngine that rejects', { models: [{ architecture: 'New', model }], bindEngine: async () => boom() }, 'GRAFT_PLUGIN_FAILED'],
  ['bindModel', { bindEngine: (engine) => engine.bind(Extra).toConstantValue({ name: 'x' }), bindModel: boom }, 'GRAFT_PLUGIN_FAILED'],
  [
    'a token that is bound already',
    { bindEngine: (engine) => engine.bind(Backend).toConstantValue({ name: 'x' }) },
    'GRAFT_TOKEN_CONFLICT',
  ],
  ['a token of the other scope', { bindEngine: (engine) => engine.bind(Runner).toConstantValue({ name: 'x' }) }, 'GRAFT_TOKEN_SCOPE'],
];

test.each(steps)('a plugin that fails at %s leaves the registry, explanations and bindings as before', async (_, declaration, expected) => {
  const hpu = definePlugin({
    name: 'hpu',
    after: ['core-model'],
    platforms: [platform('hpu')],
    overrides: [{ architecture: 'Llama', platform: 'hpu', model }],
    bindEngine: (engine) => engine.bind(Backend).toConstantValue({ name: 'hpu' }),
  });
  const loaded = await load({ plugins: [core, hpu] });
  const state = () => ({
    list: loaded.registry.list(),
    explained: explain(loaded.registry.resolve(['Llama'], { platform: 'hpu' }).toJSON()),
    bindings: loaded.createEngineContainer({ platform: 'hpu' }).describe(),
    hash: loaded.hash,
  });
  const before = state();
  const unhandled: unknown[] = [];
  const listen = (reason: unknown) => unhandled.push(reason);
  process.on('unhandledRejection', listen);
  await expect(loaded.add({ plugin: definePlugin({ name: 'bad', ...declaration }), file: null, specifier: null })).rejects.toThrow(
    code(expected),
  );
  await new Promise((resolve) => setImmediate(resolve));
  process.off('unhandledRejection', listen);
  expect(state()).toEqual(before);
  expect(unhandled).toEqual([]);
  expect(() => loaded.registry.resolve(['New'], { platform: 'hpu' })).toThrow(
    code('GRAFT_UNKNOWN_ARCHITECTURE', { where: 'plugins loaded: core-model, hpu' }),
  );
});

test('loading the same plugin twice changes nothing; another under its name is an error', async () => {
  const loaded = await load({ plugins: [core, core] });
  const { hash } = loaded;
  await loaded.add({ plugin: core, file: null, specifier: null });
  expect([loaded.hash, loaded.plugins.length]).toEqual([hash, 1]);
  const impostor = definePlugin({ name: 'core-model', models: [{ architecture: 'Other', model }] });
  await expect(loaded.add({ plugin: impostor, file: 'file:///x.ts', specifier: null })).rejects.toThrow(
    code('GRAFT_PLUGIN_DUPLICATE', { where: expect.stringContaining('file:///x.ts') }),
  );
});

test('the hash is that of the set: the same twice, another with another plugin, and a difference is put in words', async () => {
  const hpu = (priority: number) => definePlugin({ name: 'hpu', overrides: [{ architecture: 'Llama', platform: 'hpu', priority, model }] });
  const [one, same, other] = await Promise.all([
    load({ plugins: [core, hpu(0)] }),
    load({ plugins: [core, hpu(0)] }),
    load({ plugins: [core, hpu(1)] }),
  ]);
  expect(one.hash).toBe(same.hash);
  expect(one.hash).not.toBe(other.hash);
  assertSamePluginSet(one.records, same.records);
  expect(() => assertSamePluginSet(one.records, other.records)).toThrow(
    code('GRAFT_PLUGIN_SETS_DIFFER', { what: expect.stringMatching(/"hpu" has overrides .*priority 1.*priority 0/) }),
  );
  const fewer = await load({ plugins: [core] });
  expect(() => assertSamePluginSet(one.records, fewer.records)).toThrow(/plugin "hpu" is missing/);
});

test('unloading a plugin restores what it overrode; one that others come after stays', async () => {
  const hpu = definePlugin({ name: 'hpu', after: ['core-model'], overrides: [{ architecture: 'Llama', platform: 'hpu', model }] });
  const loaded = await load({ plugins: [core, hpu] });
  await expect(loaded.remove('core-model')).rejects.toThrow(code('GRAFT_PLUGIN_IN_USE', { what: expect.stringContaining('"hpu"') }));
  await loaded.remove('hpu');
  expect(loaded.registry.resolve(['Llama'], { platform: 'hpu' }).chain.map(({ plugin }) => plugin)).toEqual(['core-model']);
});

test('hooks come in plugin order, with their plugin', async () => {
  const hooked = (name: string, after: string[]) =>
    definePlugin({ name, after, hooks: [{ architecture: 'Llama', platform: 'hpu', phase: 'init', run() {} }] });
  const loaded = await load({ plugins: [hooked('b', ['a']), hooked('a', [])] });
  expect(loaded.hooks.map(({ owner }) => owner.plugin)).toEqual(['a', 'b']);
});
