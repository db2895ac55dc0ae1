import { expect, test } from 'vitest';
import { explain } from './explain.ts';
import type { ModelClass } from './model.ts';
import { ModelRegistry } from './model-registry.ts';
import { Resolution, resolutionJsonSchema } from './resolution.ts';

class Llama {}
class HpuLlama extends Llama {}
const llama = async () => Llama as ModelClass;
const hpuLlama = async () => HpuLlama as ModelClass;
const owner = (plugin: string) => ({ plugin, file: `file:///plugins/${plugin}.ts` });
const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });
const served = async (registry: ModelRegistry, resolution: Resolution) => (await registry.load(resolution)).Model as unknown;
const neverImported = async (): Promise<ModelClass> => {
  throw new Error('model code was imported');
};
const faster = (Base: never) => {
  class Faster extends (Base as typeof Llama) {}
  return Faster;
};
const safer = (Base: never) => {
  class Safer extends (Base as typeof Llama) {}
  return Safer;
};

test('an override serves its platform, and upstream every other', async () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  registry.override('Llama', { platform: 'hpu', model: hpuLlama });
  expect(await served(registry, registry.resolve(['Llama'], { platform: 'hpu' }))).toBe(HpuLlama);
  expect(await served(registry, registry.resolve(['Llama'], { platform: 'cpu' }))).toBe(Llama);
  expect(await served(registry, registry.upstreamOf('Llama'))).toBe(Llama);
});

test('two overrides of equal priority conflict before any model code is imported, naming both plugins and their files', () => {
  const registry = new ModelRegistry();
  registry.register('Llama', neverImported);
  registry.override('Llama', { platform: 'hpu', model: neverImported, owner: owner('one') });
  const second = () => registry.override('Llama', { platform: 'hpu', model: neverImported, owner: owner('two') });
  expect(second).toThrow(
    code('GRAFT_REGISTRATION_CONFLICT', { where: 'plugin "one" (file:///plugins/one.ts) and plugin "two" (file:///plugins/two.ts)' }),
  );
  expect(registry.list()[0]!.overrides).toHaveLength(1);
});

test('the same priority on another platform does not conflict', () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  registry.override('Llama', { platform: 'hpu', model: hpuLlama });
  registry.override('Llama', { platform: 'tpu', model: hpuLlama });
  expect(registry.list()[0]!.overrides.map(({ platform }) => platform)).toEqual(['hpu', 'tpu']);
});

test('factories compose in the order of their priority; without one the other serves, and upstream stays resolvable', async () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  registry.override('Llama', { platform: 'hpu', priority: 2, factory: async () => safer, owner: owner('user') });
  registry.override('Llama', { platform: 'hpu', priority: 1, factory: async () => faster, owner: owner('vendor') });
  const names = async (without: string[] = []) => {
    const { resolution } = await registry.load(registry.resolve(['Llama'], { platform: 'hpu', without }));
    return resolution.chain.map(({ className }) => className);
  };
  expect(await names()).toEqual(['Llama', 'Faster', 'Safer']);
  expect(await served(registry, registry.upstreamOf('Llama'))).toBe(Llama);
  expect(await names(['user: Llama'])).toEqual(['Llama', 'Faster']);
  expect(await names(['vendor: Llama'])).toEqual(['Llama', 'Safer']);
  expect(await served(registry, registry.upstreamOf('Llama'))).toBe(Llama);
});

test('a factory gives the same class on the same base each time it is resolved', async () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  registry.override('Llama', { platform: 'hpu', factory: async () => faster });
  const load = () => served(registry, registry.resolve(['Llama'], { platform: 'hpu' }));
  expect(await load()).toBe(await load());
});

test('a factory stacks on a plain subclass below it; a plain subclass outranks what is below it', async () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  registry.override('Llama', { platform: 'hpu', priority: 1, factory: async () => faster, owner: owner('below') });
  registry.override('Llama', { platform: 'hpu', priority: 2, model: hpuLlama, owner: owner('vendor') });
  registry.override('Llama', { platform: 'hpu', priority: 3, factory: async () => safer, owner: owner('above') });
  registry.override('Llama', { platform: 'tpu', model: hpuLlama, owner: owner('other') });
  const resolution = registry.resolve(['Llama'], { platform: 'hpu' });
  expect(Object.getPrototypeOf(await served(registry, resolution))).toBe(HpuLlama);
  expect(resolution.candidates.map(({ plugin, reason }) => [plugin, reason])).toEqual([
    ['application', 'base'],
    ['below', 'outranked'],
    ['vendor', 'base'],
    ['above', 'selected'],
    ['other', 'other-platform'],
  ]);
});

test('a resolution record validates against its schema, survives JSON and explains itself with every candidate', async () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama, { owner: owner('core-model') });
  registry.retire('OldLlama', { note: 'renamed in 0.1', replacedBy: 'Llama' });
  registry.override('Llama', { platform: 'hpu', model: hpuLlama, reliesOn: { methods: ['forward'] }, owner: owner('llama4-hpu') });
  const resolution = registry.resolve(['OldLlama', 'Llama'], { platform: 'hpu', mode: 'compile' });
  const before = Resolution.parse(JSON.parse(JSON.stringify(resolution)));
  expect(before.chain.map(({ className }) => className)).toEqual([null, null]);
  const record = Resolution.parse(JSON.parse(JSON.stringify((await registry.load(resolution)).resolution)));
  expect(record.passedOver).toEqual([{ architecture: 'OldLlama', reason: 'retired', detail: 'renamed in 0.1', nearest: [] }]);
  expect(explain(record).split('\n')).toEqual([
    'Llama (platform "hpu", mode "compile") is served by HpuLlama of plugin "llama4-hpu"',
    '  passed over OldLlama (retired): renamed in 0.1',
    '  class chain, upstream first:',
    '    1. Llama: upstream of plugin "core-model" (file:///plugins/core-model.ts)',
    '    2. HpuLlama: subclass of plugin "llama4-hpu", priority 0 (file:///plugins/llama4-hpu.ts)',
    '  candidates:',
    '    [base] core-model (upstream): the class that the subclass of plugin "llama4-hpu" builds on',
    '    [selected] llama4-hpu (subclass, platform "hpu", priority 0): the highest priority (0) on platform "hpu"; contract not checked',
  ]);
  expect(resolutionJsonSchema()).toMatchObject({ type: 'object', required: expect.arrayContaining(['architecture', 'candidates']) });
});

test('an architecture list is walked in order, with the reason why each name was passed over', () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  const { architecture, passedOver } = registry.resolve(['Lama', 'Llama'], { platform: 'cpu' });
  expect(architecture).toBe('Llama');
  expect(passedOver).toEqual([{ architecture: 'Lama', reason: 'unknown', detail: 'no loaded plugin registers it', nearest: ['Llama'] }]);
});

test('an unknown architecture names the nearest and the loaded plugins', () => {
  const registry = new ModelRegistry({ loadedPlugins: () => ['core-model', 'cpu'] });
  for (const name of ['Llama4ForCausalLM', 'LlamaForCausalLM', 'Llama4ForConditionalGeneration', 'Whisper']) registry.register(name, llama);
  const resolve = () => registry.resolve(['Lama4ForCausalLM'], { platform: 'cpu' });
  expect(resolve).toThrow(
    code('GRAFT_UNKNOWN_ARCHITECTURE', {
      where: 'plugins loaded: core-model, cpu',
      // Edit distances from "Lama4ForCausalLM": 1, 2, 14; Whisper is further.
      fix: expect.stringContaining('nearest: "Llama4ForCausalLM" or "LlamaForCausalLM")'),
    }),
  );
  expect(() => registry.upstreamOf('Lama')).toThrow(code('GRAFT_UNKNOWN_ARCHITECTURE'));
});

test('a retired architecture says which version or package it went to', () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  registry.retire('Mixtral', { note: 'moved to the package @graft/mixtral in 0.3' });
  registry.retire('OldLlama', { note: 'renamed', replacedBy: 'Llama' });
  expect(() => registry.resolve(['Mixtral'], { platform: 'cpu' })).toThrow(
    /no longer registered: moved to the package @graft\/mixtral in 0\.3/,
  );
  expect(() => registry.resolve(['OldLlama'], { platform: 'cpu' })).toThrow(code('GRAFT_RETIRED_ARCHITECTURE', { fix: 'use Llama.' }));
});

test('an override of a misspelt architecture names the nearest', () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  expect(() => registry.override('LLama4', { platform: 'hpu', model: hpuLlama })).toThrow(
    code('GRAFT_OVERRIDE_WITHOUT_UPSTREAM', { fix: expect.stringContaining('"Llama"') }),
  );
});

test('registering an architecture twice names both plugins', () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama, { owner: owner('one') });
  expect(() => registry.register('Llama', llama, { owner: owner('two') })).toThrow(
    code('GRAFT_ARCHITECTURE_CONFLICT', { where: expect.stringMatching(/"one".*"two"/) }),
  );
});

test('an override that does not extend what it overrides is refused, a factory too', async () => {
  const registry = new ModelRegistry();
  class Stranger {}
  registry.register('Llama', llama);
  registry.override('Llama', { platform: 'hpu', model: async () => Stranger as ModelClass });
  registry.override('Llama', { platform: 'tpu', factory: async () => () => Stranger as ModelClass });
  await expect(served(registry, registry.resolve(['Llama'], { platform: 'hpu' }))).rejects.toThrow(
    code('GRAFT_OVERRIDE_BASE', { what: 'Stranger overrides Llama, but does not extend Llama.' }),
  );
  await expect(served(registry, registry.resolve(['Llama'], { platform: 'tpu' }))).rejects.toThrow(code('GRAFT_OVERRIDE_BASE'));
});

test('an override of another copy of upstream, and upstream itself as an override, are told apart from a wrong base', async () => {
  const registry = new ModelRegistry();
  const Upstream = await llama();
  const OtherCopy = { [Upstream.name]: class {} }[Upstream.name]!;
  class FastLlama extends OtherCopy {}
  registry.register('Llama', llama);
  registry.override('Llama', { platform: 'hpu', model: async () => FastLlama as ModelClass });
  registry.override('Llama', { platform: 'tpu', model: llama });
  await expect(served(registry, registry.resolve(['Llama'], { platform: 'hpu' }))).rejects.toThrow(
    code('GRAFT_OVERRIDE_BASE', {
      what: 'FastLlama overrides Llama, but does not extend this Llama: it extends another class of that name.',
      fix: expect.stringContaining('one copy of the package'),
    }),
  );
  await expect(served(registry, registry.resolve(['Llama'], { platform: 'tpu' }))).rejects.toThrow(
    code('GRAFT_OVERRIDE_BASE', {
      what: 'The subclass that overrides Llama is Llama itself.',
      fix: 'write `class MyLlama extends Llama`.',
    }),
  );
});

test('a lazy reference that gives no class is an error that says what it gave', async () => {
  const registry = new ModelRegistry();
  registry.register('Llama', async () => undefined as unknown as ModelClass);
  await expect(served(registry, registry.upstreamOf('Llama'))).rejects.toThrow(
    code('GRAFT_NOT_A_MODEL_CLASS', { what: expect.stringContaining('undefined') }),
  );
});

test('a lazy reference that rejects once is found to work the second time', async () => {
  const registry = new ModelRegistry();
  let calls = 0;
  registry.register('Llama', async () => {
    calls += 1;
    if (calls === 1) throw new Error('network gone');
    return Llama as ModelClass;
  });
  const resolution = registry.resolve(['Llama'], { platform: 'cpu' });
  await expect(served(registry, resolution)).rejects.toThrow(code('GRAFT_MODULE_FAILED', { cause: new Error('network gone') }));
  expect(await served(registry, resolution)).toBe(Llama);
});

test('a module that Node keeps as failed gives the cause and the advice to restart', async () => {
  const registry = new ModelRegistry();
  const broken = 'data:text/javascript,throw new Error("broken at line 1")';
  registry.register('Llama', () => import(/* @vite-ignore */ broken), { owner: owner('core-model') });
  const load = () => served(registry, registry.upstreamOf('Llama'));
  await expect(load()).rejects.toThrow(/broken at line 1/);
  await expect(load()).rejects.toThrow(
    code('GRAFT_MODULE_FAILED', {
      cause: new Error('broken at line 1'),
      where: expect.stringContaining('core-model'),
      fix: expect.stringMatching(/^correct the cause and restart the process/),
    }),
  );
});

test('a change that throws leaves the registry as it was', () => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  const before = registry.list();
  const change = () =>
    registry.transaction(() => {
      registry.register('Whisper', llama);
      registry.register('Llama', llama);
    });
  expect(change).toThrow(code('GRAFT_ARCHITECTURE_CONFLICT'));
  expect(registry.list()).toEqual(before);
});

test.each<[string, string, (registry: ModelRegistry) => unknown]>([
  ['register', 'model: must be a function', (registry) => registry.register('A', 'text' as never)],
  ['register', 'architecture', (registry) => registry.register('', llama)],
  ['register', 'capabilities', (registry) => registry.register('A', llama, { capabilities: 'images' as never })],
  ['register', '"contain"', (registry) => registry.register('A', llama, { contain: ['B'] } as never)],
  ['layer', 'Norm', (registry) => registry.layer('Norm', 7 as never)],
  ['layer', 'must be a class name', (registry) => registry.layer('core/Norm', llama)],
  ['override', 'priority', (registry) => registry.override('Llama', { platform: 'hpu', model: llama, priority: Number.NaN })],
  ['override', 'priority', (registry) => registry.override('Llama', { platform: 'hpu', model: llama, priority: '1' as never })],
  ['override', 'platform: must not be empty', (registry) => registry.override('Llama', { platform: '', model: llama })],
  ['override', '"model" (a subclass) and "factory"', (registry) => registry.override('Llama', { platform: 'hpu' } as never)],
  ['override', 'modes', (registry) => registry.override('Llama', { platform: 'hpu', model: llama, modes: 'compile' as never })],
  ['override', 'must name at least one', (registry) => registry.override('Llama', { platform: 'hpu', model: llama, modes: [] })],
  ['retire', 'Llama1', (registry) => registry.retire('Llama1', 7 as never)],
  ['retire', 'must not be empty', (registry) => registry.retire('', { note: 'gone' })],
  ['resolve', 'requireOverride', (registry) => registry.resolve(['Llama'], { platform: 'hpu', requireOverride: 'yes' as never })],
  ['hook', 'phase', (registry) => registry.hook({ of: 'Llama', platform: 'hpu', phase: 'load' as never, run() {} }, 'h')],
  ['resolve', 'architectures', (registry) => registry.resolve('Llama' as never, { platform: 'hpu' })],
  ['resolve', 'platform', (registry) => registry.resolve(['Llama'], {} as never)],
  ['resolve', 'without', (registry) => registry.resolve(['Llama'], { platform: 'hpu', without: 'vendor: Llama' as never })],
])('%s refuses a wrong argument, names it, and changes nothing: %s', (call, what, wrong) => {
  const registry = new ModelRegistry();
  registry.register('Llama', llama);
  const before = registry.list();
  expect(() => wrong(registry)).toThrow(
    code('GRAFT_REGISTRATION_INVALID', {
      what: expect.stringMatching(new RegExp(`^ModelRegistry\\.${call} was given`)),
      where: 'plugin "application" (passed in code)',
    }),
  );
  expect(() => wrong(registry)).toThrow(what);
  expect(registry.list()).toEqual(before);
});
