import { describe, expect, test } from 'vitest';
import { buildManifest } from './build-manifest.ts';
import { contractText, describeContract } from './describe-contract.ts';
import { explain } from './explain.ts';
import { LoadedPlugins } from './loaded-plugins.ts';
import type { UpstreamManifest } from './manifest.ts';
import type { ModelClass } from './model.ts';
import { definePlugin, type OverrideDeclaration, type ReliesOn } from './plugin.ts';
import { Resolution } from './resolution.ts';

/** Upstream as the override was written against it. Evaluated and described from one text, so that class and manifest cannot disagree. */
const upstreamText = `
export class Attention {
  weight = { dtype: 'float32', shape: [2, 2] };
  scale = 1;
  forward(query, key, value) { return [query, key, value]; }
}
export class Llama {
  layers = [new Attention(), new Attention()];
  norm = null;
  get depth() { return this.layers.length; }
  get unready() { throw new Error('read too early'); }
  createModel(context) { return context; }
  forward(ids, positions) { return ids ?? positions; }
  *namedParameters() { for (const [i, { weight }] of this.layers.entries()) yield ['layers.' + i + '.weight', weight]; }
  *namedBuffers() {}
}`;

const manifestOf = (text: string, version = '1.2.3'): UpstreamManifest =>
  buildManifest({ name: 'upstream', version }, [{ path: 'llama.ts', text }]);
const hashOf = (className: string, method: string): string => manifestOf(upstreamText).classes[className]!.methods[method]!.hash!;

const everything: ReliesOn = {
  version: '^1.2.0',
  attributes: ['layers.*.scale', 'layers.1.weight.shape', 'depth', 'unready', 'norm', 'Attention.scale', 'Llama.depth'],
  methods: ['forward', 'createModel(context)', 'Attention.forward(query, key, value)'],
  parameters: ['layers.*.weight', 'layers.0.weight'],
  copied: { forward: hashOf('Llama', 'forward'), 'Attention.forward': hashOf('Attention', 'forward') },
};

interface Upstream {
  text?: string;
  manifest?: boolean;
  version?: string;
}

const upstreamFacts = { architecture: 'Llama', platform: 'hpu', mode: 'lazy' };

/** Upstream and vendor's overrides, as plugins; `build` is the step between resolving and reading weights. */
async function overridden(
  reliesOn: ReliesOn,
  { text = upstreamText, manifest = true, version }: Upstream = {},
  more: OverrideDeclaration[] = [],
) {
  const { Llama } = (await import(`data:text/javascript,${encodeURIComponent(text)}`)) as { Llama: ModelClass };
  const plugins = new LoadedPlugins({ graftVersion: '1.0.0' });
  const add = (plugin: Parameters<typeof definePlugin>[0]) => plugins.add({ plugin: definePlugin(plugin), file: null, specifier: null });
  await add({
    name: 'upstream',
    ...(version === undefined ? {} : { version }),
    models: [{ architecture: 'Llama', model: async () => Llama }],
    ...(manifest ? { manifest: async () => manifestOf(text) } : {}),
  });
  const model = async (): Promise<ModelClass> => class HpuLlama extends Llama {};
  await add({ name: 'vendor', overrides: [{ of: 'Llama', platform: 'hpu', model, reliesOn }, ...more] });
  const classes = await plugins.registry.load(plugins.registry.resolve(['Llama'], upstreamFacts));
  const build = () => classes.construct(undefined as never);
  const candidate = (plugin = 'vendor') => Resolution.parse(classes.resolution).candidates.find((one) => one.plugin === plugin)!;
  return { plugins, classes, build, candidate };
}

async function failureOf(promise: Promise<unknown>): Promise<{ code: string; message: string; cause?: Error }> {
  return promise.then(
    () => expect.fail('it did not fail'),
    (error: unknown) => error as { code: string; message: string },
  );
}

test('a contract that upstream keeps holds, and explain says so', async () => {
  const { classes, build, candidate } = await overridden(everything);
  expect(candidate().contract).toBe('not checked');
  expect(await build()).toHaveProperty('layers');
  expect(candidate()).toMatchObject({ contract: 'holds', contractNotes: [] });
  expect(explain(classes.resolution)).toContain('; contract holds');
});

test('renaming a relied-on attribute, parameter or method upstream fails the drift contract when the model is built, naming each', async () => {
  const text = upstreamText
    .replace('scale = 1', 'scaling = 1')
    .replaceAll('depth', 'layerCount')
    .replaceAll('weight', 'kernel')
    .replace('createModel(', 'makeModel(')
    .replace('forward(query', 'attend(query');
  const { classes, build, candidate } = await overridden(everything, { text });
  const error = await failureOf(build());
  expect(error.code).toBe('GRAFT_CONTRACT_BROKEN');
  for (const words of [
    'attribute "layers.*.scale": "layers.0" (Attention) has no "scale"; now there is "scaling"',
    'attribute "layers.1.weight.shape": "layers.1" (Attention) has no "weight"; now there is',
    'attribute "depth": Llama has no "depth"'.replace('Llama', 'HpuLlama'),
    'attribute "Attention.scale": Attention has no "scale"; now there is "scaling", "kernel"',
    'attribute "Llama.depth": Llama has no "depth"; now there is',
    'method "createModel(context)" of Llama: now there is "makeModel"',
    'method "Attention.forward(query, key, value)": Attention has no "forward"; now there is "attend"',
    'parameter "layers.*.weight": now there is "layers.0.kernel", "layers.1.kernel"',
    'parameter "layers.0.weight": now there is "layers.0.kernel"',
    'copied method "Attention.forward": Attention has no "forward"; now there is "attend"',
  ]) {
    expect(error.message).toContain(words);
  }
  expect(error.message.match(/\n {4}\w/g)).toHaveLength(10);
  expect(error.message).toContain('where: plugin "vendor" (passed in code)');
  expect(error.message).toContain('`graft contract Llama`');
  expect(candidate().contract).toBe('broken');
  expect(candidate().contractNotes).toHaveLength(10);
  expect(explain(classes.resolution)).toContain('contract broken:\n      method "createModel(context)" of Llama');
});

describe('a breach names what is there now', () => {
  test.each<[string, ReliesOn, Upstream, string]>([
    ['a version out of range', { version: '^1.3.0' }, {}, 'version "^1.3.0" of plugin "upstream": it is 1.2.3 now'],
    ['the version that the plugin states', { version: '^1.2.0' }, { version: '2.0.0' }, 'it is 2.0.0 now'],
    ['a parameter of a method', { methods: ['forward(ids)'] }, {}, 'method "forward(ids)": it is forward(ids, positions) now'],
    ['another order', { methods: ['forward(positions, ids)'] }, {}, 'it is forward(ids, positions) now'],
    ['a method that became an accessor', { methods: ['depth'] }, {}, 'method "depth" of Llama: it is an accessor now'],
    ['a class that is gone', { methods: ['Atention.forward'] }, {}, 'upstream has no class Atention; now there is "Attention", "Llama"'],
    ['a class that is gone, of an attribute', { attributes: ['Lama.depth'] }, {}, 'upstream has no class Lama; now there is "Llama"'],
    [
      'a copied method whose body changed',
      { copied: { forward: 'feedfacefeedface' } },
      {},
      `its hash is "${hashOf('Llama', 'forward')}" now`,
    ],
    ['an element past the end', { attributes: ['layers.2'] }, {}, '"layers" (Array) has no "2"'],
  ])('%s', async (_, reliesOn, upstream, words) => {
    const error = await failureOf((await overridden(reliesOn, upstream)).build());
    expect(error.code).toBe('GRAFT_CONTRACT_BROKEN');
    expect(error.message).toContain(words);
  });
});

test('a copied method whose body upstream changed is a breach, and one whose comments it changed is not', async () => {
  const reliesOn = { copied: { 'Attention.forward': hashOf('Attention', 'forward') } };
  const commented = upstreamText.replace('return [query', '/* new */ return [query');
  await expect((await overridden(reliesOn, { text: commented })).build()).resolves.toBeDefined();
  const changed = upstreamText.replace('return [query', 'return [null, query');
  expect((await failureOf((await overridden(reliesOn, { text: changed })).build())).message).toContain('upstream changed it');
});

describe('without a manifest', () => {
  test('what only a manifest knows is not checked, and explain says so', async () => {
    const { build, candidate, classes } = await overridden(everything, { manifest: false });
    await build();
    expect(candidate().contract).toBe('not checked');
    expect(candidate().contractNotes).toEqual([
      'version "^1.2.0": plugin "upstream" states none',
      'method "forward": plugin "upstream" has no manifest; the class has the name',
      'method "createModel(context)": plugin "upstream" has no manifest; the class has the name',
      'method "Attention.forward(query, key, value)": plugin "upstream" has no manifest',
      'copied method "forward": plugin "upstream" has no manifest',
      'copied method "Attention.forward": plugin "upstream" has no manifest',
      'attribute "Attention.scale": plugin "upstream" has no manifest',
      'attribute "Llama.depth": plugin "upstream" has no manifest',
    ]);
    expect(explain(classes.resolution)).toContain('; contract not checked:\n      version');
  });

  test('attributes, parameters and names of methods are checked all the same', async () => {
    const reliesOn = { attributes: ['layer'], parameters: ['layers.*.bias'], methods: ['backward'] };
    const error = await failureOf((await overridden(reliesOn, { manifest: false })).build());
    for (const words of ['attribute "layer"', 'parameter "layers.*.bias"', 'method "backward" of Llama'])
      expect(error.message).toContain(words);
  });
});

test('what is behind an attribute that the config makes null is not checked, and is not drift', async () => {
  const { build, candidate } = await overridden({ attributes: ['norm.weight'], parameters: ['norm.weight'] });
  await build();
  const note = '"norm.weight": "norm" is null in this model';
  expect(candidate()).toMatchObject({ contract: 'not checked', contractNotes: [`attribute ${note}`, `parameter ${note}`] });
});

test('contracts of all overrides that stack are held, each against the class below it, and broken ones end in one error', async () => {
  type Base = new (context: never) => object;
  const factory = (name: string) => async () => (Below: never) =>
    ({
      [name]: class extends (Below as Base) {
        added(): void {}
      },
    })[name] as ModelClass;
  const stack = (reliesOn: ReliesOn): OverrideDeclaration[] => [
    { of: 'Llama', platform: 'hpu', priority: 1, factory: factory('First') },
    { of: 'Llama', platform: 'hpu', priority: 2, factory: factory('Second'), reliesOn },
  ];
  await expect((await overridden({ methods: ['forward'] }, {}, stack({ methods: ['added'] }))).build()).resolves.toBeDefined();
  const error = await failureOf((await overridden({ methods: ['added'] }, {}, stack({ methods: ['gone'] }))).build());
  expect(error.message).toContain('2 overrides of Llama rely');
  expect(error.message).toContain('method "added" of Llama');
  expect(error.message).toContain('method "gone" of First: now there is');
});

test('a constructor that fails on what upstream no longer has is explained by the contract, with its error as the cause', async () => {
  const cause = new TypeError('this.createLayers is not a function');
  const failing: OverrideDeclaration = {
    of: 'Llama',
    platform: 'hpu',
    priority: 1,
    factory: async () => (Below: never) =>
      class extends (Below as new () => object) {
        constructor() {
          super();
          throw cause;
        }
      },
  };
  const broken = await overridden({ methods: ['createLayers'] }, {}, [failing]);
  expect(await failureOf(broken.build())).toMatchObject({ code: 'GRAFT_CONTRACT_BROKEN', cause: { cause } });
  const kept = await overridden({ methods: ['forward'] }, {}, [failing]);
  expect(await failureOf(kept.build())).toMatchObject({ code: 'GRAFT_CONSTRUCTION_FAILED', cause });
});

test('before a model is built, explain knows what classes and manifest say', async () => {
  const { classes, candidate } = await overridden({ methods: ['forward'], parameters: ['layers.0.weight'], attributes: ['layers'] });
  await classes.checkContracts();
  expect(candidate()).toMatchObject({
    contract: 'not checked',
    contractNotes: ['attribute "layers": no model was built', 'parameter "layers.0.weight": no model was built'],
  });
  const broken = await overridden({ methods: ['backward'] });
  await broken.classes.checkContracts();
  expect(broken.candidate().contract).toBe('broken');
});

test.each<[string, ReliesOn, RegExp]>([
  ['a version that is no range', { version: 'newest' }, /reliesOn\.version: must be a semver range/],
  ['a method that is no name', { methods: ['a.b.c'] }, /reliesOn\.methods\.0: must be `method`/],
])('%s is refused when the plugin is defined', (_, reliesOn, words) => {
  const model = async (): Promise<ModelClass> => class {};
  expect(() => definePlugin({ name: 'vendor', overrides: [{ of: 'Llama', platform: 'hpu', model, reliesOn }] })).toThrow(words);
});

test('a malformed manifest is an error that names the plugin and the key', async () => {
  const { plugins } = await overridden({});
  await plugins.add({ plugin: definePlugin({ name: 'odd', manifest: async () => ({ format: 2 }) as never }), file: null, specifier: null });
  expect(await failureOf(describeContract(plugins, 'Llama'))).toMatchObject({
    code: 'GRAFT_MANIFEST_INVALID',
    message: expect.stringMatching(/format[\s\S]*plugin "odd"/) as string,
  });
});

describe('what graft contract prints', () => {
  test('of an architecture, pasted as it is, holds, also with every copied method', async () => {
    const { plugins } = await overridden({});
    const build = async () => (await overridden({})).build() as never;
    const { reliesOn } = await describeContract(plugins, 'Llama', build);
    expect(reliesOn).toMatchObject({
      attributes: ['layers', 'norm', 'depth', 'unready'],
      parameters: ['layers.*.weight'],
      version: '^1.2.3',
    });
    const pasted = await overridden(reliesOn);
    await pasted.build();
    expect(pasted.candidate()).toMatchObject({ contract: 'holds', contractNotes: [] });
  });

  test('of a part of a model holds too, and is TypeScript', async () => {
    const { plugins } = await overridden({});
    const record = await describeContract(plugins, 'Attention');
    const text = contractText(record);
    expect(text).toContain("methods: ['Attention.forward(query, key, value)'],");
    const code = `export default ({ ${text.replaceAll('// copied', 'copied').replaceAll(/\/\/( {3}'| },)/g, '$1')}\n})`;
    const { default: pasted } = (await import(`data:text/javascript,${encodeURIComponent(code)}`)) as { default: { reliesOn: ReliesOn } };
    expect(pasted.reliesOn).toEqual({ ...record.reliesOn, parameters: undefined });
    const override = await overridden(pasted.reliesOn);
    await override.build();
    expect(override.candidate().contract).toBe('holds');
  });

  test('without a manifest is the methods of the class, and says what is missing', async () => {
    const { plugins } = await overridden({}, { manifest: false });
    const record = await describeContract(plugins, 'Llama');
    expect(record).toMatchObject({
      hasManifest: false,
      reliesOn: { methods: ['createModel', 'forward', 'namedParameters', 'namedBuffers'] },
    });
    expect(contractText(record)).toContain('has no manifest');
  });

  test('of an unknown name is an error with the nearest names', async () => {
    const { plugins } = await overridden({});
    expect(await failureOf(describeContract(plugins, 'Lama'))).toMatchObject({
      code: 'GRAFT_UNKNOWN_CLASS',
      message: expect.stringContaining('nearest: "Llama"') as string,
    });
  });
});

test('a contract that names nothing is none', async () => {
  for (const reliesOn of [{}, { methods: [] }]) {
    const { build, candidate } = await overridden(reliesOn);
    await build();
    expect(candidate().contract).toBe('none');
  }
});
