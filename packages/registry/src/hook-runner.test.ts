import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { explainHooks } from './explain.ts';
import { HookRunner, type HookTarget, type LoadedHook } from './hook-runner.ts';
import { InitHook, PostLoadHook } from './hooks.ts';
import type { BufferFacts, InspectableModel, ParameterFacts } from './model.ts';
import type { Patches } from './patch-ledger.ts';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });
const target: HookTarget = { architecture: 'Tiny', platform: 'hpu', mode: 'compile', chain: [{ plugin: 'tiny', className: null }] };
const weight = (dtype = 'float32', shape = [2, 3]): ParameterFacts => ({ dtype, shape });

function noBuffers(): never[] {
  return [];
}

class Tiny implements InspectableModel {
  parameters: Record<string, ParameterFacts> = { w: weight(), v: weight('float32', [4]) };
  buffers: Record<string, BufferFacts> = { rope: { ...weight(), persistent: false } };
  log: string[] = [];
  namedParameters(): Iterable<[string, ParameterFacts]> {
    return Object.entries(this.parameters);
  }
  namedBuffers(): Iterable<[string, BufferFacts]> {
    return Object.entries(this.buffers);
  }
}

const hook = (
  phase: LoadedHook['phase'],
  run: (model: Tiny, context: { id: number }, patches: Patches) => void | Promise<void>,
  more: Partial<LoadedHook> = {},
): LoadedHook => ({
  of: 'Tiny',
  platform: 'hpu',
  phase,
  ...(phase === 'postLoad' ? { reload: 'keep' as const } : {}),
  run,
  owner: { plugin: 'vendor', file: null },
  name: 'vendor: hook 1',
  ...more,
});

/** A model whose one init hook is `change`. */
async function runInit(change: (model: Tiny, patches: Patches) => void | Promise<void>, model = new Tiny()) {
  const runner = new HookRunner(target, [hook('init', (tiny, _, patches) => change(tiny, patches))]);
  const error = await runner.run('init', model, { id: 1 }).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  return { model, runner, error };
}

test('hooks run base first, then subclass, then plugins in their order; an overridden hook runs once, in the base’s place', async () => {
  class Base extends Tiny {
    @InitHook()
    first(): void {
      this.log.push('base.first');
    }
    @InitHook()
    second(): void {
      this.log.push('base.second');
    }
    @PostLoadHook({ reload: 'keep' })
    later(): void {
      this.log.push('base.later');
    }
  }
  class Sub extends Base {
    @InitHook()
    third(): void {
      this.log.push('sub.third');
    }
    override first(): void {
      this.log.push('sub.first');
    }
  }
  const note = (text: string) => hook('init', (model, { id }) => void model.log.push(`${text} ${id}`));
  const runner = new HookRunner(target, [
    note('plugin one'),
    note('plugin two'),
    hook('init', (model) => void model.log.push('other'), { platform: 'cpu' }),
  ]);
  const model = new Sub();
  await runner.run('init', model, { id: 7 });
  expect(model.log).toEqual(['sub.first', 'base.second', 'sub.third', 'plugin one 7', 'plugin two 7']);
  runner.lifecycle.advance('loaded');
  await runner.run('postLoad', model, { id: 7 });
  expect(model.log.at(-1)).toBe('base.later');
});

test('a factory’s class may carry hooks, and its base does not get them', async () => {
  const factory = (Base: typeof Tiny) => {
    class Faster extends Base {
      @InitHook({ reason: 'one graph for all layers' })
      unify(): void {
        this.log.push('unified');
      }
    }
    return Faster;
  };
  const model = new (factory(Tiny))();
  const runner = new HookRunner({
    ...target,
    chain: [{ plugin: 'vendor', className: 'Faster' }],
  });
  await runner.run('init', model, null);
  await new HookRunner(target).run('init', new Tiny(), null);
  expect(model.log).toEqual(['unified']);
  expect(runner.toJSON().hooks).toMatchObject([
    { hook: 'Faster.unify', plugin: 'vendor', reason: 'one graph for all layers', outcome: 'ran' },
  ]);
});

test('a hook runs in its modes only, and the record says which were skipped', async () => {
  class Modal extends Tiny {
    @InitHook({ modes: ['lazy'] })
    lazyOnly(): void {
      this.log.push('lazy');
    }
    @InitHook({ modes: ['compile', 'lazy'] })
    both(): void {
      this.log.push('both');
    }
  }
  const runner = new HookRunner(target);
  const model = new Modal();
  await runner.run('init', model, null);
  expect(model.log).toEqual(['both']);
  expect(runner.toJSON().hooks.map(({ hook: name, outcome }) => [name, outcome])).toEqual([
    ['Modal.lazyOnly', 'skipped: other mode'],
    ['Modal.both', 'ran'],
  ]);
});

test.each<[string, (parameters: Record<string, ParameterFacts>) => unknown, string]>([
  ['adds', (parameters) => Object.assign(parameters, { extra: weight() }), '"extra" was added'],
  ['drops', (parameters) => void delete parameters['v'], '"v" was dropped'],
  [
    'renames',
    (parameters) => {
      parameters['inner.w'] = parameters['w']!;
      delete parameters['w'];
    },
    '"w" was renamed to "inner.w"',
  ],
  ['retypes', (parameters) => Object.assign(parameters, { w: weight('float16') }), '"w" was retyped from float32 to float16'],
  ['reshapes', (parameters) => Object.assign(parameters, { w: weight('float32', [3, 2]) }), '"w" was reshaped from [2, 3] to [3, 2]'],
  ['reshapes in place', (parameters) => void (parameters['w']!.shape as number[]).reverse(), '"w" was reshaped from [2, 3] to [3, 2]'],
])('an init hook that %s a parameter fails, names the key, and the model is back as it was before the hook', async (_, change, text) => {
  const model = new Tiny();
  const { parameters, buffers } = model;
  const before = Object.entries(parameters);
  const { runner, error } = await runInit((tiny) => {
    tiny.log.push('began');
    tiny.buffers['mask'] = { ...weight(), persistent: false };
    change(tiny.parameters);
  }, model);
  expect(error).toEqual(
    code('GRAFT_HOOK_CHANGED_PARAMETERS', {
      what: expect.stringContaining(text),
      where: 'vendor: hook 1',
      fix: expect.stringContaining('The model is as it was before the phase.'),
    }),
  );
  expect([model.parameters, model.buffers]).toEqual([parameters, buffers]);
  const after = Object.entries(model.parameters); // the same objects under the same names in the same order, with the same facts
  expect(after.map(([name, facts], index) => name === before[index]![0] && facts === before[index]![1])).toEqual([true, true]);
  expect(model).toEqual(new Tiny());
  expect(runner.lifecycle.state).toBe('constructed');
  expect(runner.toJSON()).toEqual({ hooks: [], renames: [], patches: [] });
});

test('a change of class, a list, a map or a set that a failed hook made without the ledger is taken back too', async () => {
  class Other extends Tiny {}
  const model = Object.assign(new Tiny(), { layers: [{ n: 0 }, { n: 1 }], byName: new Map([['a', { n: 2 }]]), kinds: new Set(['a']) });
  const { layers, byName, kinds } = model;
  const { error } = await runInit((tiny) => {
    const mine = tiny as typeof model;
    Object.setPrototypeOf(tiny, Other.prototype);
    mine.layers.pop();
    mine.layers[0]!.n = 7;
    mine.byName.get('a')!.n = 7;
    mine.byName.set('b', { n: 3 });
    mine.kinds.clear();
    throw new Error('half-way');
  }, model);
  expect(error).toEqual(code('GRAFT_HOOK_FAILED'));
  expect(model.constructor).toBe(Tiny);
  expect([layers, [...byName], [...kinds]]).toEqual([[{ n: 0 }, { n: 1 }], [['a', { n: 2 }]], ['a']]);
});

test('a model that keeps its parameters out of reach cannot be taken back, and is marked failed', async () => {
  class Hidden extends Tiny {
    readonly #own = new Map([['w', weight()]]);
    override namedParameters(): Iterable<[string, ParameterFacts]> {
      return this.#own;
    }
    add(): void {
      this.#own.set('extra', weight());
    }
  }
  const { runner, error } = await runInit((model) => (model as Hidden).add(), new Hidden());
  expect(error).toEqual(code('GRAFT_HOOK_CHANGED_PARAMETERS', { fix: expect.stringContaining('build it again') }));
  expect(runner.lifecycle.state).toBe('failed');
  await expect(runner.run('init', new Tiny(), null)).rejects.toThrow(code('GRAFT_LIFECYCLE', { fix: 'build the model again.' }));
});

test('a hook after which the model cannot be read has failed, and the model is as it was', async () => {
  const { model, error } = await runInit((tiny) => void Object.assign(tiny, { parameters: null }));
  expect(error).toEqual(code('GRAFT_HOOK_FAILED', { where: 'vendor: hook 1' }));
  expect([...model.namedParameters()].map(([name]) => name)).toEqual(['w', 'v']);
});

test('an init hook that changes parameters through the ledger leaves the model as it was before the phase', async () => {
  const model = new Tiny();
  const { parameters } = model;
  const { runner, error } = await runInit((tiny, patches) => {
    patches.wrapChild(tiny, 'parameters', (inner: Record<string, ParameterFacts>) => ({ 'inner.w': inner['w'], v: inner['v'] }));
  }, model);
  expect(error).toEqual(
    code('GRAFT_HOOK_CHANGED_PARAMETERS', { fix: expect.stringContaining('The model is as it was before the phase.') }),
  );
  expect(model.parameters).toBe(parameters);
  expect(runner.lifecycle.state).toBe('constructed');
  expect(runner.toJSON()).toEqual({ hooks: [], renames: [], patches: [] });
});

test('a hook that throws undoes the whole phase, also what earlier hooks did', async () => {
  const model = new Tiny();
  const forward = () => 1;
  const runner = new HookRunner(target, [
    hook('init', (tiny, _, patches) => patches.lend(tiny, 'lent', { forward })),
    hook(
      'init',
      () => {
        throw new Error('no such layer');
      },
      { name: 'vendor: hook 2' },
    ),
  ]);
  await expect(runner.run('init', model, null)).rejects.toThrow(
    code('GRAFT_HOOK_FAILED', { where: 'vendor: hook 2', what: expect.stringContaining('no such layer') }),
  );
  expect('lent' in model).toBe(false);
  expect(runner.lifecycle.state).toBe('constructed');
});

test('a change of buffers alone passes, and a parameter of equal facts may take another’s place', async () => {
  const { error, runner } = await runInit((model) => {
    model.buffers['mask'] = { ...weight(), persistent: false };
    model.parameters['w'] = weight();
  });
  expect(error).toBeNull();
  expect(runner.lifecycle.state).toBe('initialized');
});

test('a hook that changed buffers and then throws leaves them as they were', async () => {
  const { runner, model } = await runInit((tiny) => {
    delete tiny.buffers['rope'];
    throw new Error('half-way');
  });
  expect(Object.keys(model.buffers)).toEqual(['rope']);
  expect(runner.lifecycle.state).toBe('constructed');
});

test('a patch says where in the model it was made; what is lent or attached is a part of the model, what is not attached yet is refused', async () => {
  const layer = { attn: { forward: () => 0 } };
  class Nested extends Tiny {
    layers = [layer];
    *namedModules(): Iterable<[string, object]> {
      yield ['', this];
      yield ['layers.0', layer];
    }
  }
  const { runner } = await runInit((tiny, patches) => {
    patches.wrapChild(layer, 'attn', (inner) => ({ inner, forward: () => 1 }));
    patches.lend(tiny, 'gate', {});
    patches.setField((tiny as Tiny & { gate: object }).gate, 'open', true); // lent to a module, so it is a part
    const created = {};
    expect(() => patches.setField(created, 'mark', 1)).toThrow(code('GRAFT_PATCH_REFUSED'));
    patches.lend(layer, 'created', created);
    patches.setField(created, 'mark', 1);
  }, new Nested());
  const paths = runner.ledger.toJSON().map(({ path }) => path);
  expect(paths).toEqual(['layers.0.attn', 'gate', 'gate.open', 'layers.0.created', 'layers.0.created.mark']);
});

test('the hooks of a phase can be told without running them', async () => {
  const runner = new HookRunner(target, [
    hook('postLoad', (tiny) => void tiny.log.push('ran'), { modes: ['lazy'] }),
    hook('postLoad', () => {}, { name: 'vendor: hook 2' }),
  ]);
  const model = new Tiny();
  expect((await runner.plan('postLoad', model)).map(({ hook: name, outcome }) => [name, outcome])).toEqual([
    ['vendor: hook 1', 'skipped: other mode'],
    ['vendor: hook 2', 'planned'],
  ]);
  expect([model.log, runner.toJSON().hooks]).toEqual([[], []]);
});

test('an asynchronous hook is awaited', async () => {
  const { model } = await runInit(async (tiny) => {
    await setImmediate();
    tiny.log.push('done');
  });
  expect(model.log).toEqual(['done']);
});

test('postLoad records renames and refuses every other change', async () => {
  const rename = (model: Tiny) => {
    model.parameters['fused.w'] = model.parameters['w']!;
    delete model.parameters['w'];
  };
  const runner = new HookRunner(target, [hook('postLoad', rename, { name: 'vendor: rename' })]);
  const model = new Tiny();
  await runner.run('init', model, null);
  runner.lifecycle.advance('loaded');
  await runner.run('postLoad', model, null);
  expect(runner.toJSON().renames).toEqual([{ hook: 'vendor: rename', from: 'w', to: 'fused.w' }]);
  expect(explainHooks(runner.toJSON())).toMatch(
    /^hooks:\n {2}\[postLoad\] vendor: rename \(plugin "vendor"; all modes; reload: keep\): ran in [\d.]+ ms\nrenamed parameters:\n {2}w -> fused\.w \(vendor: rename\)\npatches in effect: none$/,
  );
  const drops = new HookRunner(target, [hook('postLoad', (tiny) => void delete tiny.parameters['v'])]);
  const other = new Tiny();
  await drops.run('init', other, null);
  drops.lifecycle.advance('loaded');
  await expect(drops.run('postLoad', other, null)).rejects.toThrow(
    code('GRAFT_HOOK_CHANGED_PARAMETERS', { what: expect.stringContaining('"v" was dropped') }),
  );
});

test('phases run once each and in order, and the error names the state and the call', async () => {
  const runner = new HookRunner(target);
  const model = new Tiny();
  await expect(runner.run('postLoad', model, null)).rejects.toThrow(
    code('GRAFT_LIFECYCLE', { what: `run('postLoad') was called on a model that is constructed; it needs one that is "loaded".` }),
  );
  await runner.run('init', model, null);
  await expect(runner.run('init', model, null)).rejects.toThrow(code('GRAFT_LIFECYCLE', { what: expect.stringContaining('initialized') }));
  runner.lifecycle.advance('loaded');
  await runner.run('postLoad', model, null);
  await expect(runner.run('postLoad', model, null)).rejects.toThrow(code('GRAFT_LIFECYCLE'));
  runner.lifecycle.advance('ready');
  expect(runner.lifecycle.state).toBe('ready');
});

test('a patch outside its hook, and a patch after ready, are refused with the reason', async () => {
  let kept: Patches | undefined;
  const { runner, model } = await runInit((_, patches) => {
    kept = patches;
  });
  expect(() => kept!.lend(model, 'x', {})).toThrow(code('GRAFT_PATCH_REFUSED', { what: expect.stringContaining('has ended') }));
  runner.lifecycle.advance('loaded');
  runner.lifecycle.advance('ready');
  const late = runner.ledger.open({ plugin: 'vendor', hook: 'late', phase: 'postLoad' }, { pathOf: () => '' }).patches;
  expect(() => late.lend(model, 'x', {})).toThrow(
    code('GRAFT_LIFECYCLE', { what: expect.stringContaining('lend (late) was called on a model that is ready') }),
  );
});

test('a decorator on a static method or a getter, without parentheses or without a reload policy is refused where it stands', () => {
  const method = Object.getOwnPropertyDescriptor(Tiny.prototype, 'namedBuffers')!;
  expect(() => InitHook()(Tiny, 'create', method)).toThrow(code('GRAFT_HOOK_TARGET', { where: 'Tiny.create' }));
  expect(() => InitHook()(Tiny.prototype, 'size', { get: () => () => {} })).toThrow(
    code('GRAFT_HOOK_TARGET', { what: expect.stringContaining('not a method with a public name') }),
  );
  expect(() => PostLoadHook({} as { reload: 'keep' })(Tiny.prototype, 'namedBuffers', method)).toThrow(
    code('GRAFT_HOOK_TARGET', { what: expect.stringContaining('reload') }),
  );
  const bare = InitHook as unknown as (...at: readonly unknown[]) => void; // without parentheses
  expect(() => bare(Tiny.prototype, 'namedBuffers', method)).toThrow(
    code('GRAFT_HOOK_TARGET', { where: 'Tiny.namedBuffers', fix: 'write `@InitHook()`.' }),
  );
});

test('the language’s own decorators, which a runner without our tsconfig applies, mark hooks as well', async () => {
  const context = (name: string, more: object = {}) =>
    ({ kind: 'method', name, static: false, private: false, ...more }) as ClassMethodDecoratorContext;
  class Modern extends Tiny {
    unify(): void {
      this.log.push('unified');
    }
  }
  InitHook({ reason: 'one graph' })(Modern.prototype.unify, context('unify'));
  const model = new Modern();
  const runner = new HookRunner(target);
  await runner.run('init', model, null);
  expect(model.log).toEqual(['unified']);
  expect(runner.toJSON().hooks).toMatchObject([{ hook: 'Modern.unify', reason: 'one graph' }]);
  expect(() => InitHook()(Modern.prototype.unify, context('unify', { static: true }))).toThrow(
    code('GRAFT_HOOK_TARGET', { what: expect.stringContaining('static') }),
  );
});

class Norm {
  scaled = 1;
  @InitHook({ reason: 'folds the scale' })
  fold(patches: Patches): void {
    patches.setField(this, 'folded', true);
  }
}
class HeadNorm extends Norm {
  @InitHook()
  flatten(): void {
    this.scaled = 2;
  }
}
/** Three layers with a norm each, and a linear model around them. */
class Deep extends Tiny {
  readonly norms: readonly Norm[] = [new Norm(), new HeadNorm(), new Norm()];
  @InitHook()
  first(): void {
    this.log.push('model');
  }
  *namedModules(): Iterable<[string, object]> {
    yield ['', this];
    for (const [index, norm] of this.norms.entries()) yield [`norms.${index}`, norm];
  }
}

test('a hook on any module class runs for each instance, base first, in the order of the tree, and is recorded once', async () => {
  const runner = new HookRunner(target);
  await runner.run('init', new Deep(), null);
  expect(runner.toJSON().hooks.map(({ hook: name, paths, outcome }) => [name, paths, outcome])).toEqual([
    ['Deep.first', [''], 'ran'],
    ['Norm.fold', ['norms.0', 'norms.1', 'norms.2'], 'ran'],
    ['HeadNorm.flatten', ['norms.1'], 'ran'],
  ]);
  expect(runner.ledger.toJSON().map(({ path, hook: name }) => [path, name])).toEqual(
    [0, 1, 2].map((index) => [`norms.${index}.folded`, 'Norm.fold']),
  );
  expect(explainHooks(runner.toJSON())).toContain('[init] Norm.fold (plugin "tiny"; all modes; 3 modules from norms.0 on): ran in');
});

test('a hook that fails on one of its instances says on which, and the whole phase is undone', async () => {
  class Strict extends Norm {
    @InitHook()
    refuse(): void {
      throw new Error('no such scale');
    }
  }
  class Mixed extends Deep {
    override readonly norms = [new Norm(), new Strict()];
  }
  const [runner, model] = [new HookRunner(target), new Mixed()];
  await expect(runner.run('init', model, null)).rejects.toThrow(code('GRAFT_HOOK_FAILED', { where: 'Strict.refuse at norms.1' }));
  expect([model.log, model.norms.some((norm) => 'folded' in norm), runner.ledger.toJSON()]).toEqual([[], false, []]);
});

test('a plugin’s hook names a layer, the model or all models, and says where it found nothing', async () => {
  const seen: string[] = [];
  const on = (of: string, upstream: LoadedHook['upstream'] = null) =>
    hook('init', (instance) => void seen.push(`${of} ${instance.constructor.name}`), { of, upstream });
  const runner = new HookRunner(target, [
    on('Norm', async () => Norm as never),
    on('core/HeadNorm', async () => HeadNorm as never),
    on('*'),
    on('tiny/Tiny'),
    on('Other', async () => Tiny as never), // another name of the model's class
  ]);
  await runner.run('init', new Deep(), null);
  expect(seen).toEqual(['Norm Norm', 'Norm HeadNorm', 'Norm Norm', 'core/HeadNorm HeadNorm', '* Deep', 'tiny/Tiny Deep']);
  expect(runner.toJSON().hooks.at(-1)).toMatchObject({ paths: [], outcome: 'skipped: not in this model' });
});

test('a hook for modes of another platform gives a warning; a misspelt mode is an error', async () => {
  const of = (...modes: string[]) => new HookRunner({ ...target, modes: ['compile', 'lazy'] }, [hook('init', () => {}, { modes })]);
  const seen: string[] = [];
  const other = of('full');
  other.events.on('hook:warning', ({ hook: name, message }) => void seen.push(`${name}: ${message}`));
  await other.run('init', new Tiny(), null);
  expect(seen).toEqual([expect.stringMatching(/^vendor: hook 1: It only runs in "full", and platform "hpu" has no such mode/)]);
  await expect(of('complie').run('init', new Tiny(), null)).rejects.toThrow(
    code('GRAFT_TARGET_MODE', { where: 'vendor: hook 1 of plugin "vendor"', fix: expect.stringContaining('use "compile"') }),
  );
});

test('a decorator with an unknown option, or one of the wrong type, is refused with the nearest', () => {
  const apply = (decorator: ReturnType<typeof InitHook>) => () => decorator(Tiny.prototype, 'unify', { value: () => {} });
  const refusal = (words: string) => code('GRAFT_HOOK_TARGET', { where: 'Tiny.unify', what: expect.stringContaining(words) });
  expect(apply(InitHook({ mode: ['lazy'] } as never))).toThrow(refusal('did you mean "modes"'));
  expect(apply(InitHook({ modes: 'lazy' } as never))).toThrow(refusal('modes: '));
  expect(apply(InitHook({ reload: 'keep' } as never))).toThrow(refusal('"reload" is not a key'));
  expect(apply(PostLoadHook({ reload: 're-run' } as never))).toThrow(refusal('expected one of "rerun"'));
});

test('a postLoad hook that puts another parameter in the place of one is refused, an init hook is not', async () => {
  const replace = (model: Tiny) => void Object.assign(model.parameters, { w: weight() });
  const runner = new HookRunner(target, [hook('init', replace), hook('postLoad', replace)]);
  const model = new Tiny();
  await runner.run('init', model, null);
  runner.lifecycle.advance('loaded');
  await expect(runner.run('postLoad', model, null)).rejects.toThrow(
    code('GRAFT_HOOK_CHANGED_PARAMETERS', {
      what: expect.stringContaining('"w" was replaced'),
      fix: expect.stringContaining('setStorage'),
    }),
  );
});

test('changes without patches are in the record, of the model and of its classes', async () => {
  class Own extends Tiny {}
  const runner = new HookRunner(target, [
    hook('init', (model) => void Object.assign(model, { epsilon: 0.5 })),
    hook('init', () => void Object.assign(Own.prototype, { forward: function forward() {} })),
    hook('init', () => {}),
  ]);
  await runner.run('init', new Own(), null);
  expect(runner.toJSON().hooks.map(({ unrecorded }) => unrecorded)).toEqual([
    ['epsilon was added'],
    ['Own.prototype.forward was added'],
    [],
  ]);
});

test('a hook method that is switched off and that no class has is an error with the nearest', async () => {
  const runner = new HookRunner({ ...target, without: ['tiny: Norm.fald'] });
  const model = new Deep();
  await runner.run('init', model, null);
  runner.lifecycle.advance('loaded');
  await expect(runner.run('postLoad', model, null)).rejects.toThrow(
    code('GRAFT_WITHOUT_UNKNOWN', { fix: expect.stringContaining('"tiny: Norm.fold"') }),
  );
});

test('one hook is switched off by its name', async () => {
  const hooks = [
    hook('init', (tiny) => void tiny.log.push('one')),
    hook('init', (tiny) => void tiny.log.push('two'), { name: 'vendor: hook 2' }),
  ];
  const runner = new HookRunner({ ...target, without: ['vendor: hook 1', 'tiny: Norm.fold'] }, hooks);
  const model = new Deep();
  await runner.run('init', model, null);
  expect(model.log).toEqual(['model', 'two']);
  const off = runner.toJSON().hooks.filter(({ outcome }) => outcome === 'skipped: switched off');
  expect(off.map(({ hook: name }) => name)).toEqual(['Norm.fold', 'vendor: hook 1']);
});

test('a patch over another plugin’s is an event, and the covered one says so in the explanation', async () => {
  const replacing = (plugin: string) =>
    hook('init', (tiny, _, patches) => patches.replaceMethod(tiny, 'namedBuffers', noBuffers), { owner: { plugin, file: null } });
  const runner = new HookRunner(target, [replacing('p1'), replacing('p2')]);
  const seen: string[] = [];
  runner.events.on('hook:warning', ({ plugin, message }) => void seen.push(`${plugin}: ${message}`));
  await runner.run('init', new Tiny(), null);
  expect(seen).toEqual([expect.stringContaining('p2: patch 2 (replaceMethod of Tiny.namedBuffers) of plugin "p2" covers patch 1')]);
  expect(explainHooks(runner.toJSON())).toContain('; covered by patch 2 of plugin "p2"');
  runner.ledger.markRead([]);
  expect(explainHooks(runner.toJSON())).toContain('; nobody reads it');
});

test('what a hook warns of is in its record, in an event and in the explanation, and changes nothing', async () => {
  const warning = hook('init', (_model, _context, patches) => patches.warn('there is no rotation to lend'));
  const runner = new HookRunner(target, [warning, hook('init', () => undefined)]);
  const seen: unknown[] = [];
  runner.events.on('hook:warning', (event) => seen.push(event));
  await runner.run('init', new Tiny(), { id: 1 });
  const { hooks, patches } = runner.toJSON();
  expect(hooks.map(({ warnings }) => warnings)).toEqual([['there is no rotation to lend'], []]);
  expect(seen).toEqual([{ hook: 'vendor: hook 1', plugin: 'vendor', message: 'there is no rotation to lend' }]);
  expect(explainHooks(runner.toJSON())).toContain('warning: there is no rotation to lend');
  expect(patches).toEqual([]);
});
