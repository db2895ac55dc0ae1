import { GraftError } from '@graft/common';
import { describe, expect, test } from 'vitest';
import type { Build } from './build.ts';
import { explain } from './explain.ts';
import { loadPlugins } from './load-plugins.ts';
import { definePlugin, type OverrideDeclaration, type PluginDeclaration } from './plugin.ts';
import { Resolution } from './resolution.ts';
import type { ResolveContext } from './resolve.ts';

interface Context {
  build: Build;
}

class Part {
  *namedModules(prefix = ''): Iterable<[string, object]> {
    yield [prefix, this];
    for (const [name, child] of Object.entries(this)) {
      if (child instanceof Part) yield* child.namedModules(prefix === '' ? name : `${prefix}.${name}`);
    }
  }
}
class Norm extends Part {
  readonly size: number;
  constructor(size: number) {
    super();
    this.size = size;
  }
  forward(x: number): number {
    return x;
  }
}
class Layer extends Part {
  readonly before: Norm;
  readonly after: Norm;
  constructor({ build }: Context) {
    super();
    this.before = build(Norm, 4);
    this.after = build(Norm, 4);
  }
}
class Model extends Part {
  readonly first: Layer;
  readonly norm: Norm;
  constructor(context: Context) {
    super();
    this.first = context.build(Layer, context);
    this.norm = context.build(Norm, 8);
  }
}
class Outer extends Part {
  readonly inner: Model;
  constructor(context: Context) {
    super();
    this.inner = context.build(Model, context);
  }
}
class FastNorm extends Norm {}
class OtherNorm extends Norm {}
class FastModel extends Model {}
const norm = (more: object = {}): OverrideDeclaration => ({ of: 'Norm', platform: 'npu', model: async () => FastNorm, ...more });
const stacked = (name: string, priority: number): OverrideDeclaration => ({
  of: 'Norm',
  platform: 'npu',
  priority,
  factory: async () => (Base: never) => ({ [name]: class extends (Base as typeof Norm) {} })[name]!,
});
const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });
const npu = { name: 'npu', modes: ['fast', 'exact'], detect: () => ({ device: 'device', properties: { cores: 8 } }) as const };
const core: PluginDeclaration = {
  name: 'core',
  models: [
    { architecture: 'Model', model: async () => Model, capabilities: { images: true } },
    { architecture: 'Outer', model: async () => Outer, contains: ['Model'], family: async () => ({ name: 'outer' }) },
  ],
  layers: { Norm: async () => Norm, Layer: async () => Layer },
  retired: { OldNorm: { note: 'renamed in 0.2', replacedBy: 'Norm' } },
};

async function load(overrides: OverrideDeclaration[], ...more: PluginDeclaration[]) {
  const plugins = [core, { name: 'device', platforms: [npu] }, { name: 'vendor', after: ['core'], overrides }, ...more].map(definePlugin);
  return loadPlugins({ plugins, specifiers: [], graftVersion: '0.1.0' });
}

async function built(
  overrides: OverrideDeclaration[],
  {
    architecture = 'Model',
    more = [] as PluginDeclaration[],
    ...context
  }: Partial<ResolveContext> & { architecture?: string; more?: PluginDeclaration[] } = {},
) {
  const { registry } = await load(overrides, ...more);
  const resolution = registry.resolve([architecture], { platform: 'npu', ...context });
  const classes = await registry.load<Context, Model>(resolution);
  const model = await classes.construct({ build: classes.build });
  return { resolution, classes, model, text: explain(classes.resolution) };
}

const replacedIn = ({ layers }: Resolution, name = 'Norm') =>
  layers.find((layer) => layer.name === name)!.candidates.map(({ plugin, reason, replaced }) => [plugin, reason, replaced?.paths ?? []]);

describe('a part of a model', () => {
  test('is replaced wherever it is built, with the arguments of its base, and explain counts the instances', async () => {
    const { model, classes, text } = await built([norm()]);
    expect([model.norm, model.first.before, model.first.after].map((part) => part.constructor)).toEqual([FastNorm, FastNorm, FastNorm]);
    expect([model.norm.size, model.first.after.size]).toEqual([8, 4]);
    expect(replacedIn(classes.resolution)).toEqual([
      ['core', 'base', []],
      ['vendor', 'selected', ['first.before', 'first.after', 'norm']],
    ]);
    expect(text).toContain('FastNorm replaced 3 instances at first.before and 2 more');
    expect(Object.isFrozen(classes.resolution.layers[0]!.candidates)).toBe(true);
    expect(Resolution.parse(structuredClone(classes.resolution))).toEqual(classes.resolution);
  });

  test('is upstream’s on another platform, and where upstream was asked for', async () => {
    expect((await built([norm()], { platform: null })).model.norm.constructor).toBe(Norm);
    expect((await built([norm({ platform: 'tpu' })])).model.norm.constructor).toBe(Norm);
  });

  test('is replaced within the classes that an override names, a model or a layer', async () => {
    const inLayer = await built([norm({ within: ['Layer'] })]);
    expect(inLayer.model.norm.constructor).toBe(Norm);
    expect(replacedIn(inLayer.classes.resolution)).toEqual([
      ['core', 'selected', []],
      ['vendor', 'scoped', ['first.before', 'first.after']],
    ]);
    const both = await built([norm({ within: ['Layer'], priority: 1 }), norm({ model: async () => OtherNorm })]);
    expect([both.model.norm.constructor, both.model.first.after.constructor]).toEqual([OtherNorm, FastNorm]);
    const inOuter = await built([norm({ within: ['Outer'] })], { architecture: 'Outer' });
    expect(replacedIn(inOuter.classes.resolution)[1]![2]).toEqual(['inner.first.before', 'inner.first.after', 'inner.norm']);
    expect((await built([norm({ within: ['Outer'] })])).text).toContain('replaced nothing in this model');
  });

  test('is replaced by factories that stack, from the lowest priority up', async () => {
    const { model } = await built([stacked('Second', 2), stacked('First', 1)]);
    const names = [model.norm.constructor, Object.getPrototypeOf(model.norm.constructor)].map(({ name }) => name);
    expect(names).toEqual(['Second', 'First']);
    expect(model.norm.constructor).toBe(model.first.before.constructor);
  });

  test('that is a model keeps its override inside another one', async () => {
    const model: OverrideDeclaration = { of: 'Model', platform: 'npu', model: async () => FastModel };
    const { classes } = await built([model], { architecture: 'Outer' });
    expect(classes.family).toEqual({ name: 'outer' });
    expect(replacedIn(classes.resolution, 'Model')[1]).toEqual(['vendor', 'selected', ['inner']]);
  });

  test('that is a model, and is not declared as a part, is an error rather than upstream in silence', async () => {
    class Hidden extends Outer {}
    const more = [{ name: 'hidden', models: [{ architecture: 'Hidden', model: async () => Hidden }] }];
    const model: OverrideDeclaration = { of: 'Model', platform: 'npu', model: async () => FastModel };
    await expect(built([model], { architecture: 'Hidden', more })).rejects.toThrow(
      code('GRAFT_PART_UNDECLARED', { fix: "write `contains: ['Model']` in the declaration of Hidden." }),
    );
  });
});

describe('a target', () => {
  test('that no plugin declares is an error with the nearest names, before anything is imported', async () => {
    let imported = false;
    const model = async () => {
      imported = true;
      return FastNorm;
    };
    await expect(load([norm({ of: 'Nrm', model })])).rejects.toThrow(
      code('GRAFT_OVERRIDE_WITHOUT_UPSTREAM', {
        what: 'An override names "Nrm", which no loaded plugin declares.',
        where: 'plugin "vendor" (passed in code)',
        fix: expect.stringContaining('nearest: "Norm"'),
      }),
    );
    await expect(load([norm({ within: ['Lair'], model })])).rejects.toThrow(/scope of an override of Norm names "Lair"/);
    expect(imported).toBe(false);
  });

  test('that is retired says where it went', async () => {
    await expect(load([norm({ of: 'OldNorm' })])).rejects.toThrow(
      code('GRAFT_OVERRIDE_WITHOUT_UPSTREAM', { what: expect.stringContaining('retired: renamed in 0.2'), fix: 'use "Norm".' }),
    );
  });

  test('that two plugins declare is named with its plugin', async () => {
    const second = { name: 'second', after: ['core'], layers: { Norm: async () => OtherNorm } };
    const third = (of: string) => ({ name: 'third', after: ['second'], overrides: [norm({ of })] });
    await expect(load([], second, third('Norm'))).rejects.toThrow(
      code('GRAFT_TARGET_AMBIGUOUS', { fix: 'write "core/Norm" or "second/Norm".' }),
    );
    expect((await built([], { more: [second, third('core/Norm')] })).model.norm).toBeInstanceOf(FastNorm);
  });
});

describe('an override', () => {
  test('of equal priority conflicts where both could serve, and names both plugins', async () => {
    const rival = (more: object) => ({ name: 'rival', after: ['vendor'], overrides: [norm({ model: async () => OtherNorm, ...more })] });
    const conflict = code('GRAFT_REGISTRATION_CONFLICT', { where: expect.stringMatching(/"vendor".*"rival"/) });
    await expect(load([norm()], rival({}))).rejects.toThrow(conflict);
    await expect(load([norm()], rival({ within: ['Layer'] }))).rejects.toThrow(conflict);
    await expect(load([norm({ modes: ['fast'] })], rival({ modes: ['exact'] }))).resolves.toBeDefined();
    await expect(load([norm({ within: ['Model'] })], rival({ within: ['Outer'] }))).resolves.toBeDefined();
    const device = await (await load([])).selectPlatform('npu');
    await expect(built([norm({ when: () => true })], { device, more: [rival({ when: () => false })] })).resolves.toBeDefined();
    await expect(built([norm({ when: () => true })], { device, more: [rival({})] })).rejects.toThrow(conflict);
  });

  test('of equal priority conflicts where two scopes meet, however they are ordered', async () => {
    const rival = { name: 'rival', after: ['vendor'], overrides: [norm({ model: async () => OtherNorm, within: ['Model'] })] };
    const conflict = code('GRAFT_REGISTRATION_CONFLICT', {
      what: expect.stringContaining('both serve at Model > Layer > Norm'),
      where: expect.stringMatching(/"vendor".*"rival"/),
    });
    await expect(built([norm({ within: ['Layer'] })], { more: [rival] })).rejects.toThrow(conflict);
    await expect(built([norm({ within: ['Layer'], priority: 1 })], { more: [rival] })).resolves.toBeDefined();
  });

  test('serves in its modes and on the devices that it wants, and says why not elsewhere', async () => {
    const when = ({ properties }: { properties: Readonly<Record<string, unknown>> }) => properties['cores'] === 16 || 'needs 16 cores';
    const device = await (await load([])).selectPlatform('npu');
    const outcomes = ({ layers }: Resolution) => layers[0]!.candidates.slice(1).map(({ reason, detail }) => [reason, detail]);
    const some = [norm({ modes: ['exact'] }), norm({ priority: 1, when })];
    const { resolution, model } = await built(some, { mode: 'fast', device });
    expect(outcomes(resolution)).toEqual([
      ['other-mode', 'serves mode "exact", not "fast"'],
      ['condition', 'its `when` refused this device: needs 16 cores'],
    ]);
    expect(model.norm.constructor).toBe(Norm);
    expect(outcomes((await built(some, { mode: 'exact' })).resolution)).toEqual([
      ['selected', 'the highest priority (0) on platform "npu"'],
      ['condition', 'its `when` asks for the device, and none was detected'],
    ]);
    const throwing = norm({
      when() {
        throw new Error('no driver');
      },
    });
    await expect(built([throwing], { device })).rejects.toThrow(code('GRAFT_OVERRIDE_CONDITION'));
    const gives = (answer: unknown) => built([norm({ when: () => answer })], { device });
    await expect(gives(Promise.resolve(true))).rejects.toThrow(
      code('GRAFT_OVERRIDE_CONDITION', { what: expect.stringContaining('a promise') }),
    );
    for (const answer of [undefined, null, 1]) await expect(gives(answer)).rejects.toThrow(code('GRAFT_OVERRIDE_CONDITION'));
  });

  test('that must replace something and does not is an error, unless its scope is not built', async () => {
    class Unused extends Part {}
    const parts = { name: 'parts', layers: { Unused: async () => Unused } };
    const of = {
      name: 'of',
      after: ['parts'],
      overrides: [{ of: 'Unused', platform: 'npu', required: true, model: async () => class extends Unused {} }],
    };
    await expect(built([], { more: [parts, of] })).rejects.toThrow(
      code('GRAFT_OVERRIDE_UNUSED', { what: 'A required override of Unused replaced nothing: the model builds no such part.' }),
    );
    await expect(built([norm({ required: true, within: ['Outer'] })])).resolves.toBeDefined();
    await expect(built([norm({ required: true, modes: ['exact'] })], { mode: 'fast' })).resolves.toBeDefined();
    await expect(built([norm({ required: true, platform: 'npuu' })])).rejects.toThrow(
      code('GRAFT_OVERRIDE_UNUSED', { what: expect.stringContaining('platform "npuu" (nearest: "npu")') }),
    );
    class Spare extends Part {}
    const spare = { name: 'spare', layers: { Spare: async () => Spare } };
    const scoped = { name: 'scoped', after: ['spare'], overrides: [norm({ required: true, within: ['Spare'] })] };
    await expect(built([], { more: [spare, scoped] })).rejects.toThrow(/serves within Spare alone/);
  });

  test('given as a class in place of a function, or by a factory that fails, is an error that says how to give it', async () => {
    const given = (fields: object) => built([{ of: 'Norm', platform: 'npu', ...fields } as never]);
    await expect(given({ model: FastNorm })).rejects.toThrow(
      code('GRAFT_NOT_A_MODEL_CLASS', { fix: 'give a function: `async () => FastNorm`.' }),
    );
    await expect(given({ factory: async () => FastNorm })).rejects.toThrow(
      code('GRAFT_NOT_A_MODEL_CLASS', { fix: expect.stringContaining('(Base) =>') }),
    );
    const failing = () => {
      throw new Error('no base');
    };
    await expect(given({ factory: async () => failing })).rejects.toThrow(
      code('GRAFT_FACTORY_FAILED', { what: expect.stringContaining('no base') }),
    );
  });

  test('that is chosen and replaces nothing does not count where one is required', async () => {
    await expect(built([norm({ within: ['Outer'] })], { requireOverride: true })).rejects.toThrow(
      code('GRAFT_OVERRIDE_UNUSED', { what: 'No override replaced anything in Model, and one is required.' }),
    );
    const { registry } = await load([]);
    expect(() => registry.resolve(['Norm'], { platform: 'npu' })).toThrow(
      /"Norm" is a declared layer of plugin "core", not an architecture/,
    );
  });

  test('is required of every load that says so', async () => {
    await expect(built([norm({ platform: 'tpu' })], { requireOverride: true })).rejects.toThrow(
      code('GRAFT_OVERRIDE_UNUSED', { what: 'No override serves Model, and one is required.' }),
    );
    await expect(built([norm()], { requireOverride: true })).resolves.toBeDefined();
  });

  test('is switched off by its name, and an unknown name is an error with the nearest', async () => {
    const off = await built([norm()], { without: ['vendor: Norm'] });
    expect(off.model.norm.constructor).toBe(Norm);
    expect(off.text).toContain('[without] vendor (subclass, platform "npu", priority 0): switched off: --without "vendor: Norm"');
    await expect(built([norm()], { without: ['vendor: Nrm'] })).rejects.toThrow(
      code('GRAFT_WITHOUT_UNKNOWN', { fix: expect.stringContaining('"vendor: Norm"') }),
    );
  });

  test('may narrow what its model can do, and no more', async () => {
    const model = (capabilities: object): OverrideDeclaration =>
      ({ of: 'Model', platform: 'npu', model: async () => FastModel, ...{ capabilities } }) as OverrideDeclaration;
    const { registry } = await load([model({ images: false })]);
    expect(registry.resolve(['Model'], { platform: 'npu' }).capabilities).toEqual({ images: false });
    expect(registry.resolve(['Model'], { platform: 'cpu' }).capabilities).toEqual({ images: true });
    await expect(load([model({ audio: false })])).rejects.toThrow(code('GRAFT_CAPABILITY_UNKNOWN'));
    await expect(load([model({ images: true })])).rejects.toThrow(code('GRAFT_PLUGIN_INVALID'));
  });

  test('with a mode that its platform lacks is refused, whichever plugin comes first', async () => {
    const wrong = norm({ modes: ['fst'] });
    const words = code('GRAFT_TARGET_MODE', { fix: 'use "fast"; the platform has "fast" and "exact".' });
    await expect(load([wrong])).rejects.toThrow(words);
    const plugins = [core, { name: 'vendor', overrides: [wrong] }, { name: 'device', platforms: [npu] }].map(definePlugin);
    await expect(loadPlugins({ plugins, specifiers: [], graftVersion: '0.1.0' })).rejects.toThrow(words);
    const hook = { of: 'Model', platform: 'npu', phase: 'init' as const, modes: ['fst'], run() {} };
    await expect(load([], { name: 'hooking', after: ['core'], hooks: [hook] })).rejects.toThrow(words);
  });

  test('for a platform that no plugin brings says so, with the nearest', async () => {
    const { text } = await built([norm({ platform: 'npuu' })]);
    expect(text).toContain(
      '[other-platform] vendor (subclass, platform "npuu", priority 0): no loaded plugin brings platform "npuu" (nearest: "npu")',
    );
  });
});

test('context.build of something that is not a class is refused', async () => {
  const { classes } = await built([norm({})]);
  expect(() => classes.build(undefined as unknown as typeof Model, undefined as never)).toThrow(
    code('GRAFT_CONSTRUCTION_FAILED', { where: 'undefined' }),
  );
});

describe('what replaces a class', () => {
  class MoreParameters extends Norm {
    override forward(x: number, y?: number): number;
    override forward(x: number, y: number): number {
      return x + y;
    }
  }
  class MoreArguments extends Norm {
    constructor(size: number, scale: number) {
      super(size * scale);
    }
  }
  class FieldForMethod extends Norm {}
  Object.defineProperty(FieldForMethod.prototype, 'forward', { value: 1 });
  class ClassForMethod extends Norm {}
  Object.defineProperty(ClassForMethod.prototype, 'forward', { value: class {} });
  class OwnField extends Norm {
    constructor(size: number) {
      super(size);
      Object.assign(this, { forward: 3 });
    }
  }
  test.each<[string, typeof Norm, string]>([
    ['further required parameters of a method', MoreParameters, '"forward" requires 2 parameters, and 1 in Norm'],
    ['further required parameters of the constructor', MoreArguments as never, 'its constructor requires 2 parameters, and 1 in Norm'],
    ['no method where one was', FieldForMethod, '"forward" is no method, and a method of Norm'],
    ['a class where a method was', ClassForMethod, '"forward" is a class, and a method of Norm'],
    ['a field that hides a method', OwnField, '"forward" is a field, and a method of Norm'],
  ])('is refused for %s', async (_, Class, words) => {
    await expect(built([norm({ model: async () => Class })])).rejects.toThrow(
      code('GRAFT_OVERRIDE_SHAPE', { what: `${Class.name} cannot stand in for Norm: ${words}.` }),
    );
  });

  test('is named where its constructor throws, with the classes around it; an error of our own keeps its code and its place', async () => {
    const failing = (error: Error) =>
      built([
        norm({
          model: async () =>
            class Broken extends Norm {
              constructor(size: number) {
                super(size);
                throw error;
              }
            },
        }),
      ]);
    const cause = new RangeError('too wide');
    await expect(failing(cause)).rejects.toThrow(
      code('GRAFT_CONSTRUCTION_FAILED', { where: 'Model > Layer > Broken, of plugin "vendor" (passed in code)', cause }),
    );
    const ours = new GraftError({ code: 'GRAFT_X', what: 'config' });
    await expect(failing(ours)).rejects.toThrow(code('GRAFT_X', { what: 'config', where: 'Model > Layer > Broken' }));
    const placed = new GraftError({ code: 'GRAFT_X', what: 'config', where: 'config.json' });
    await expect(failing(placed)).rejects.toBe(placed);
  });

  test('has its drift contract checked against an instance of the part', async () => {
    const { classes } = await built([norm({ reliesOn: { attributes: ['size'], methods: ['forward'] } })]);
    expect(classes.resolution.layers[0]!.candidates[1]).toMatchObject({
      contract: 'not checked',
      contractNotes: [expect.stringContaining('no manifest')],
    });
    await expect(built([norm({ reliesOn: { attributes: ['width'] } })])).rejects.toThrow(
      code('GRAFT_CONTRACT_BROKEN', { what: expect.stringContaining('attribute "width": FastNorm has no "width"') }),
    );
  });
});

test('a plugin with hooks alone is told, and a hook for another platform or mode with the reason', async () => {
  const hook = { of: 'Model', platform: 'npu', phase: 'init' as const, run: function note() {} };
  const hooking = {
    name: 'hooking',
    after: ['core'],
    hooks: [hook, { ...hook, of: '*', modes: ['exact'] }, { ...hook, platform: 'npuu', of: 'Norm' }],
  };
  const { text, resolution } = await built([], { mode: 'fast', more: [hooking] });
  expect(resolution.hooks.map(({ hook: name, of, reason }) => [name, of, reason])).toEqual([
    ['hooking: note', 'Model', 'runs'],
    ['hooking: note', '*', 'other-mode'],
    ['hooking: note', 'Norm', 'other-platform'],
  ]);
  expect(text).toContain('no loaded plugin brings platform "npuu" (nearest: "npu")');
  expect(text).toContain('plugins with hooks and no override here: hooking');
});
