import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type BindingOptions, inject, listToken, token } from '@graft/services';

import { afterAll, expect, test } from 'vitest';
import { type LoadPluginsOptions, loadPlugins } from './load-plugins.ts';
import type { ModelClass } from './model.ts';
import { definePlugin } from './plugin.ts';
import { assertSamePluginSet } from './plugin-set.ts';

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

test('a module that throws, is missing, declares nonsense or exports something else is named with its file', async () => {
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

test('the allow list keeps what it names; an unknown name is an error with the nearest and those found; empty means none', async () => {
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
      fix: expect.stringMatching(/correct it \(nearest: "a" or "b"\); found: "core-model", "a" and "b"/),
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
const Backend = token<Named>('Backend');
const Runner = token<Named>('Runner', 'model');
const Extra = token<Named>('Extra');
const platform = (name: string) => ({ name, modes: ['compile'], detect: () => 'absent' as const });

test('a platform’s plugin binds for its platform only; a plugin without platforms binds for all, or for those that it names', async () => {
  const vendor = (name: string) =>
    definePlugin({
      name,
      platforms: [{ ...platform(name), modes: ['compile', 'eager'] }],
      bind(bind) {
        bind(Backend, { modes: ['compile'] }).toDynamicValue(() => ({ name }));
        bind(Backend, { modes: ['eager'] }).toDynamicValue(() => ({ name: `eager ${name}` }));
        bind(Runner).toDynamicValue(async (services) => ({ name: `runner on ${(await services.get(Backend)).name}` }));
      },
    });
  const extra = definePlugin({
    name: 'extra',
    bind(bind) {
      bind(Extra).toConstantValue({ name: 'extra' });
      bind.decorate(Backend, ({ name }) => ({ name: `decorated ${name}` }), { platform: 'cpu' });
    },
  });
  const loaded = await load({ plugins: [vendor('cpu'), vendor('hpu'), extra] });
  const engine = loaded.createEngineContainer({ platform: 'hpu', mode: 'compile' });
  expect((await engine.createModelContainer().get(Runner)).name).toBe('runner on hpu');
  expect((await engine.get(Extra)).name).toBe('extra');
  const eager = loaded.createEngineContainer({ platform: 'cpu', mode: 'eager' });
  expect((await eager.createModelContainer().get(Runner)).name).toBe('runner on decorated eager cpu');
  expect(loaded.createEngineContainer({ platform: 'hpu' }).has(Backend)).toBe(false);
});

test('decorators run, and elements of a list stand, in the order of `after`, however plugins are listed', async () => {
  const Names = listToken<string>('Names');
  const adding = (name: string, after: string[]) =>
    definePlugin({
      name,
      after,
      bind(bind) {
        bind.decorate(Backend, (inner) => ({ name: `${inner.name} ${name}` }));
        bind.many(Names).toConstantValue(name);
      },
    });
  const base = definePlugin({ name: 'base', bind: (bind) => bind(Backend).toConstantValue({ name: 'base' }) });
  const plugins = [adding('third', ['second']), adding('second', ['first']), adding('first', ['base']), base];
  const engine = (await load({ plugins })).createEngineContainer({ platform: 'cpu' });
  expect((await engine.get(Backend)).name).toBe('base first second third');
  expect(await engine.get(Names)).toEqual(['first', 'second', 'third']);
});

test('two plugins that bind one service for one platform are refused when they are loaded, naming both', async () => {
  const binds = (name: string, platforms: string[], options: BindingOptions = {}) =>
    definePlugin({
      name,
      ...(platforms.length > 0 && { platforms: platforms.map(platform) }),
      bind: (bind) => bind(Backend, options).toConstantValue({ name }),
    });
  for (const plugins of [
    [binds('a', ['hpu']), binds('b', [])],
    [binds('a', ['hpu']), binds('b', ['cpu'], { platform: 'hpu' })],
    [binds('a', ['hpu'], { modes: ['compile'] }), binds('b', [], { modes: ['eager', 'compile'] })],
  ]) {
    const where = 'plugin "a" (passed in code) and plugin "b" (passed in code)';
    await expect(load({ plugins })).rejects.toThrow(code('GRAFT_TOKEN_CONFLICT', { where }));
  }
  await load({ plugins: [binds('a', ['hpu']), binds('b', ['cpu']), binds('c', [], { platform: 'tpu' })] });
  await load({ plugins: [binds('a', ['hpu'], { modes: ['compile'] }), binds('b', [], { modes: ['eager'] })] });
});

test('loading the same plugin twice changes nothing; another under its name is an error', async () => {
  const loaded = await load({ plugins: [core, core] });
  await loaded.add({ plugin: core, file: null, specifier: null });
  expect(loaded.plugins).toHaveLength(1);
  const impostor = definePlugin({ name: 'core-model', models: [{ architecture: 'Other', model }] });
  await expect(loaded.add({ plugin: impostor, file: 'file:///x.ts', specifier: null })).rejects.toThrow(
    code('GRAFT_PLUGIN_DUPLICATE', { where: expect.stringContaining('file:///x.ts') }),
  );
});

test('sets of plugins are compared, and a difference is put in words', async () => {
  const hpu = (priority: number) => definePlugin({ name: 'hpu', overrides: [{ of: 'Llama', platform: 'hpu', priority, model }] });
  const [one, same, other] = await Promise.all([
    load({ plugins: [core, hpu(0)] }),
    load({ plugins: [core, hpu(0)] }),
    load({ plugins: [core, hpu(1)] }),
  ]);
  assertSamePluginSet(one.records, same.records);
  expect(() => assertSamePluginSet(one.records, other.records)).toThrow(
    code('GRAFT_PLUGIN_SETS_DIFFER', { what: expect.stringMatching(/"hpu" has overrides .*priority 1.*priority 0/) }),
  );
  const fewer = await load({ plugins: [core] });
  expect(() => assertSamePluginSet(one.records, fewer.records)).toThrow(/plugin "hpu" is missing/);
});

test('a plugin that is listed twice, by path, by package name and by URL, is loaded once', async () => {
  const app = application('twice', {
    'package.json': { name: 'app', graft: { plugins: ['./node_modules/mine/plugin.ts', 'mine'] } },
    'node_modules/mine/package.json': { name: 'mine', exports: './plugin.ts' },
    'node_modules/mine/plugin.ts': pluginSource({ name: 'mine', retired: { Old: { note: 'gone in 2.0' } } }),
  });
  const listed = await loadPlugins({ graftVersion, from: app });
  const url = urlOf(app, 'node_modules/mine/plugin.ts');
  const byUrl = await load({ from: app, specifiers: ['mine', url, url] });
  for (const loaded of [listed, byUrl]) {
    expect(loaded.plugins.map(({ name, file }) => [name, file])).toEqual([['mine', url]]);
  }
});

test('two plugins with overrides of equal priority are refused before any model code is imported, naming both files', async () => {
  const override = (name: string) => `import { definePlugin } from '${indexUrl}';
export default definePlugin({ name: '${name}', overrides: [{ of: 'Llama', platform: 'hpu', priority: 5,
  model: () => { globalThis.importedByR1 = true; return import('./model.ts'); } }] });\n`;
  const app = application('equal', { 'package.json': { name: 'app' }, 'one.ts': override('one'), 'two.ts': override('two') });
  await expect(load({ plugins: [core], from: app, specifiers: ['./one.ts', './two.ts'] })).rejects.toThrow(
    code('GRAFT_REGISTRATION_CONFLICT', {
      what: 'Two overrides of Llama have priority 5 on platform "hpu".',
      where: `plugin "one" (${urlOf(app, 'one.ts')}) and plugin "two" (${urlOf(app, 'two.ts')})`,
    }),
  );
  expect('importedByR1' in globalThis).toBe(false);
});

test('two registries that loaded the same plugin share no service, whichever is resolved first', async () => {
  class CpuRunner {
    readonly backend: Named;
    constructor(@inject(Backend) backend: Named) {
      this.backend = backend;
    }
  }
  class MyRunner extends CpuRunner {}
  const RunnerOf = token<CpuRunner>('RunnerOf', 'model');
  const plugin = definePlugin({
    name: 'cpu',
    bind(bind) {
      bind(Backend).toDynamicValue(async () => ({ name: 'cpu' }));
      bind(RunnerOf).to(MyRunner);
    },
  });
  for (const order of [
    [0, 1, 2, 3],
    [3, 2, 1, 0],
    [2, 0, 3, 1],
  ]) {
    const sets = await Promise.all([load({ plugins: [plugin] }), load({ plugins: [plugin] })]);
    const engines = sets.map((set) => set.createEngineContainer({ platform: 'cpu' }));
    const models = engines.flatMap((engine) => [engine.createModelContainer(), engine.createModelContainer()]);
    const runners: CpuRunner[] = [];
    for (const index of order) runners[index] = await models[index]!.get(RunnerOf);
    expect(new Set(runners).size).toBe(4);
    const backends = runners.map(({ backend }) => backend);
    expect([backends[0] === backends[1], backends[2] === backends[3], backends[0] === backends[2]]).toEqual([true, true, false]);
  }
});

test('a plugin that cannot be found names the three nearest packages that the application depends on', async () => {
  const app = application('misspelt', {
    'package.json': {
      name: 'app',
      dependencies: { '@graft/hpu': '1', '@graft/cpu': '1', zod: '4' },
      devDependencies: { '@graft/tpu': '1' },
    },
  });
  await expect(load({ from: app, specifiers: ['@graft/hpuu'] })).rejects.toThrow(
    // Edit distances: 1, 2, 2; zod is further.
    code('GRAFT_PLUGIN_NOT_FOUND', { fix: expect.stringContaining('"@graft/hpu", "@graft/cpu" or "@graft/tpu"') }),
  );
});

test('an architecture or a platform that is not there names the plugins that are loaded', async () => {
  const cpu = definePlugin({ name: 'cpu', platforms: [platform('cpu')] });
  const loaded = await load({ plugins: [core, cpu] });
  const plugins = expect.stringMatching(/plugins loaded: .*core-model.*cpu/);
  expect(() => loaded.registry.resolve(['Lama'], { platform: 'cpu' })).toThrow(code('GRAFT_UNKNOWN_ARCHITECTURE', { where: plugins }));
  await expect(loaded.selectPlatform('cpuu')).rejects.toThrow(code('GRAFT_UNKNOWN_PLATFORM', { where: plugins }));
});

test('a retired architecture says where it went, in the words of the last plugin that says so', async () => {
  const retires = (name: string, note: string) => definePlugin({ name, retired: { Mixtral: { note } } });
  const loaded = await load({ plugins: [core, retires('a', 'moved to @vendor/mixtral in 0.3'), retires('b', 'gone in 0.4')] });
  const resolve = () => loaded.registry.resolve(['Mixtral'], { platform: 'cpu' });
  expect(resolve).toThrow(code('GRAFT_RETIRED_ARCHITECTURE', { what: expect.stringContaining('gone in 0.4') }));
});

test('hooks come in plugin order, with their plugin', async () => {
  const hooked = (name: string, after: string[]) =>
    definePlugin({ name, after, hooks: [{ of: 'Llama', platform: 'hpu', phase: 'init', run() {} }] });
  const loaded = await load({ plugins: [core, hooked('b', ['a']), hooked('a', ['core-model'])] });
  expect(loaded.hooks.map(({ owner }) => owner.plugin)).toEqual(['a', 'b']);
});

test('a binding for a mode that its platform lacks is refused with the nearest one, whichever is loaded first', async () => {
  const platforms = [{ name: 'npu', modes: ['compile', 'lazy'], detect: () => 'device' as const }];
  const device = definePlugin({ name: 'device', platforms });
  const runner = definePlugin({
    name: 'runner',
    bind: (bind) => bind(Backend, { platform: 'npu', modes: ['lasy'] }).toConstantValue({ name: 'x' }),
  });
  const refused = code('GRAFT_TARGET_MODE', { fix: expect.stringContaining('use "lazy"') });
  for (const plugins of [
    [device, runner],
    [runner, device],
  ])
    await expect(load({ plugins })).rejects.toThrow(refused);
});

test('the output of a compiler to CommonJS, with `exports.default`, is a plugin', async () => {
  const app = application('commonjs', { 'package.json': { name: 'app' }, 'plugin.ts': pluginSource({ name: 'inner' }) });
  writeFileSync(join(app, 'outer.mjs'), "import plugin from './plugin.ts';\nexport default { default: plugin };");
  expect((await load({ from: app, specifiers: ['./outer.mjs'] })).plugins.map(({ name }) => name)).toEqual(['inner']);
});

test('a package of a plugin that is passed in code is to be taken out of the list', async () => {
  const app = application('passed', { 'package.json': { name: 'app' } });
  writeFileSync(join(app, 'core.mjs'), 'export const core = globalThis.passedPlugin;');
  Object.assign(globalThis, { passedPlugin: core });
  await expect(load({ from: app, plugins: [core], specifiers: ['./core.mjs'] })).rejects.toThrow(
    code('GRAFT_NOT_A_PLUGIN', { fix: 'take it out: the plugin "core-model" is always loaded.' }),
  );
});

test('a package.json that is not JSON is told so', async () => {
  const app = application('not-json', { 'package.json': '{ "graft": { "plugins": ["./plugin.ts",] } }' });
  await expect(loadPlugins({ graftVersion, from: app })).rejects.toThrow(code('GRAFT_PACKAGE_INVALID', { fix: 'correct the JSON there.' }));
});
