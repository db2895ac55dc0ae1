import { describe, expect, test } from 'vitest';
import {
  type BufferFacts,
  definePlugin,
  InitHook,
  type ModelClass,
  type ParameterFacts,
  type Patches,
  type Plugin,
  type PluginDeclaration,
  PostLoadHook,
  type ReliesOn,
  token,
} from '../index.ts';
import { type CheckPluginOptions, type CheckRecord, checkPlugin, type ReloadSubject } from '../testing.ts';
import { checkReloadEqualsFreshLoad } from './check-reload.ts';

class Weight implements ParameterFacts {
  readonly dtype: string = 'float32';
  readonly shape = [2, 2];
  data: Float32Array = new Float32Array(4);
}

class Tree {
  *namedParameters(): Iterable<[string, ParameterFacts]> {
    for (const [name, value] of Object.entries(this)) {
      if (value instanceof Weight) yield [name, value];
      if (value instanceof Tree) for (const [below, facts] of value.namedParameters()) yield [`${name}.${below}`, facts];
    }
  }
  *namedBuffers(): Iterable<[string, BufferFacts]> {}
  *namedModules(prefix = ''): Iterable<[string, object]> {
    yield [prefix, this];
    for (const [name, value] of Object.entries(this))
      if (value instanceof Tree) yield* value.namedModules(prefix === '' ? name : `${prefix}.${name}`);
  }
}
class Attention extends Tree {
  weight = new Weight();
  scale(): number {
    return 2;
  }
}
class FlatAttention extends Attention {
  override scale(): number {
    return 1;
  }
}
interface Context {
  layers: number;
}
class Llama extends Tree {
  readonly context: Context;
  readonly attention: Attention = new Attention();
  readonly norm: Weight = new Weight();
  constructor(context: Context) {
    super();
    this.context = context;
  }
}

/** Overrides nothing. */
class Plain extends Llama {}

const core = definePlugin({
  name: 'core',
  platforms: [{ name: 'cpu', modes: ['eager'], detect: () => 'absent' }],
  models: [{ architecture: 'Llama', model: async () => Llama }],
  layers: { Attention: async () => Attention },
});
const context = () => ({ layers: 1 });

function overriding(model: ModelClass<Context, Llama>, more: Partial<PluginDeclaration> = {}): Plugin {
  return definePlugin({
    name: 'vendor',
    after: ['core'],
    overrides: [{ of: 'Llama', platform: 'cpu', model: async () => model as ModelClass }],
    ...more,
  });
}

/** The record of one property; what it failed with is thrown. */
async function check(property: string, plugin: Plugin, more: Partial<CheckPluginOptions<Context, Llama>> = {}): Promise<CheckRecord> {
  const { records } = await checkPlugin(plugin, { needs: [core], context, ...more }).catch((error) => {
    if (error.code === 'GRAFT_CHECK_FAILED') return error as { records: CheckRecord[] };
    throw error;
  });
  const record = records.find((each) => each.property === property)!;
  if (record.outcome === 'failed') throw record.error;
  return record;
}

class Good extends Llama {
  @InitHook({ reason: 'one class of attention' })
  flatten(patches: Patches): void {
    patches.replaceMethod(this.attention, 'scale', FlatAttention.prototype.scale);
  }
  @PostLoadHook({ reload: 'undo-redo' })
  lend(patches: Patches): void {
    patches.lend(this.attention, 'owner', this);
  }
}
const load = (model: Llama) => {
  model.norm.data.fill(3);
};

describe('checkPlugin', () => {
  const options: CheckPluginOptions<Context, Llama> = { needs: [core], context, load };

  test('gives one record for each property of each architecture, platform and mode', async () => {
    const platforms = [{ name: 'cpu', modes: ['eager', 'compile'], detect: () => 'absent' as const }];
    const needs = [definePlugin({ ...core, platforms })];
    const report = await checkPlugin(overriding(Good), { ...options, needs });
    const rows = report.records.map(({ property, mode, outcome }) => [property, mode, outcome]);
    const properties = (mode: string) => [
      ['contract holds', mode, 'not checked'],
      ['phases repeat', mode, 'held'],
      ['init keeps the parameters', mode, 'held'],
      ['undo restores', mode, 'held'],
      ['copies share nothing', mode, 'held'],
      ['reload equals a fresh load', mode, 'not checked'],
    ];
    expect(rows).toEqual([...properties('eager'), ...properties('compile')]);
    expect(report.toString()).toMatch(/^held +undo restores +Llama on cpu \(eager\) +2 patches undone$/m);
  });

  test('takes the modes of the platform that the plugin brings, and covers what it only hooks into', async () => {
    const plugin = definePlugin({
      name: 'hooks-only',
      after: ['core'],
      platforms: [{ name: 'npu', modes: ['lazy'], detect: () => 'absent' }],
      hooks: [
        {
          of: 'Llama',
          platform: 'npu',
          phase: 'init',
          run: (model: Llama, _context: Context, patches) => patches.lend(model, 'x', {}),
        },
      ],
    });
    const { records } = await checkPlugin(plugin, options);
    expect(new Set(records.map(({ platform, mode }) => `${platform} ${mode}`))).toEqual(new Set(['npu lazy']));
    expect(records.find(({ property }) => property === 'undo restores')).toMatchObject({ outcome: 'held', detail: '1 patches undone' });
  });

  test('throws when one property fails, with the code and the place of each failure in a table, and all records', async () => {
    class Careless extends Llama {
      @InitHook()
      mark(): void {
        Object.assign(this.attention, { flattened: true });
      }
    }
    const error = await checkPlugin(overriding(Careless), options).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code: 'GRAFT_CHECK_FAILED', cause: { code: 'GRAFT_CHECK_UNDO' } });
    expect(String(error)).toMatch(/failed +undo restores +Llama on cpu \(eager\) +GRAFT_CHECK_UNDO: .*attention\.flattened was added/);
    expect((error as { records: { outcome: string }[] }).records.filter(({ outcome }) => outcome === 'failed')).toHaveLength(1);
  });

  test('a post-load hook is not checked without weights, and says so', async () => {
    const { records } = await checkPlugin(overriding(Good), { needs: [core], context });
    expect(records.find(({ property }) => property === 'undo restores')).toMatchObject({
      outcome: 'not checked',
      detail: '1 patches undone; its postLoad hooks were not run: give `load`',
    });
  });

  test('refuses a plugin that brings nothing for models', async () => {
    await expect(checkPlugin(core, { context })).rejects.toMatchObject({
      code: 'GRAFT_CHECK_TARGET',
      what: expect.stringContaining('"core"'),
    });
  });
});

describe('a check that would show nothing is refused', () => {
  const hook = (more: object) => ({ of: 'Llama', platform: 'cpu', phase: 'init' as const, run: function note() {}, ...more });
  const outranking = overriding(Good, {
    name: 'other',
    overrides: [{ of: 'Llama', platform: 'cpu', priority: 9, model: async () => Good as ModelClass }],
  });
  const onCpuu = [{ of: 'Llama', platform: 'cpuu', model: async () => Good as ModelClass }];
  class Complied extends Llama {
    @InitHook({ modes: ['eagre'] })
    unify(): void {}
  }

  test.each<[string, Plugin, Partial<CheckPluginOptions<Context, Llama>>, string]>([
    ['a misspelt platform', overriding(Good, { overrides: onCpuu }), {}, 'the platform "cpuu"'],
    [
      'a misspelt platform on a hook',
      definePlugin({ name: 'vendor', after: ['core'], hooks: [hook({ platform: 'cpuu' })] }),
      {},
      'the platform "cpuu"',
    ],
    ['a mode to check that the platform lacks', overriding(Good), { modes: ['eagre'] }, 'the mode "eagre"'],
    ['a misspelt mode on a hook method', overriding(Complied), {}, 'Complied.unify (skipped: other mode)'],
    ['an override that another outranks', overriding(Good), { needs: [core, outranking] }, 'no part of it serves or runs'],
    [
      'a hook on a layer that no model has',
      definePlugin({ name: 'vendor', after: ['core'], layers: { Flat: async () => FlatAttention }, hooks: [hook({ of: 'Flat' })] }),
      {},
      'vendor: note (skipped: not in this model)',
    ],
  ])('%s', async (_, plugin, more, says) => {
    const failure = checkPlugin(plugin, { needs: [core], context, ...more });
    await expect(failure).rejects.toMatchObject({ code: 'GRAFT_CHECK_TARGET', what: expect.stringContaining(says) });
  });
});

test('a context that drops the build it is given is blamed, and not the plugin', async () => {
  class FastAttention extends Attention {}
  const plugin = overriding(Plain, { overrides: [{ of: 'Attention', platform: 'cpu', model: async () => FastAttention }] });
  await expect(checkPlugin(plugin, { needs: [core], context })).rejects.toMatchObject({
    code: 'GRAFT_CHECK_TARGET',
    what: expect.stringContaining('`context` callback does not use the `build`'),
    fix: expect.stringContaining('pass it on'),
  });
});

test('a misspelt mode on a hook or an override of the plugin is refused when it is loaded', async () => {
  const at = { of: 'Llama', platform: 'cpu', modes: ['eagre'] };
  const hooks = [{ ...at, phase: 'init' as const, run() {} }];
  const overrides = [{ ...at, model: async () => Plain as ModelClass }];
  for (const more of [{ hooks }, { overrides }])
    await expect(checkPlugin(overriding(Plain, more), { needs: [core], context })).rejects.toMatchObject({ code: 'GRAFT_TARGET_MODE' });
});

describe('a hook on a layer', () => {
  const onLayer = (run: (attention: Attention, context: Context, patches: Patches) => void) =>
    definePlugin({
      name: 'layered',
      after: ['core'],
      hooks: [{ of: 'core/Attention', platform: 'cpu', phase: 'init', run }],
    });

  test('is checked on each model that has the layer', async () => {
    const plugin = onLayer((attention, _, patches) => patches.setField(attention, 'flat', true));
    expect(await check('undo restores', plugin)).toMatchObject({ architecture: 'Llama', outcome: 'held', detail: '1 patches undone' });
    expect((await check('phases repeat', plugin, { load })).detail).toBe('init: 1 hooks, postLoad: 0 hooks');
  });

  test('that changes a prototype or a static next to the ledger is found, and the classes are put back', async () => {
    const { scale } = Attention.prototype;
    const plugin = onLayer(() => {
      Attention.prototype.scale = () => 3;
      Object.assign(Attention, { region: 'mine' });
    });
    await expect(check('undo restores', plugin)).rejects.toMatchObject({
      code: 'GRAFT_CHECK_CLASSES',
      what: expect.stringMatching(/Attention\.prototype\.scale is function.*Attention\.region was added/),
    });
    expect([Attention.prototype.scale, 'region' in Attention]).toEqual([scale, false]);
  });

  test('that patches a prototype is refused by the ledger, and undoes nothing because nothing was done', async () => {
    const plugin = onLayer((_attention, _context, patches) => patches.replaceMethod(Attention.prototype, 'scale', () => 3));
    await expect(check('undo restores', plugin)).rejects.toMatchObject({
      code: 'GRAFT_HOOK_FAILED',
      what: expect.stringContaining('Attention.prototype belongs to every model of the process'),
    });
  });
});

describe('contract holds', () => {
  const relyingOn = (reliesOn: ReliesOn) =>
    definePlugin({
      name: 'relying',
      after: ['core'],
      overrides: [{ of: 'Llama', platform: 'cpu', model: async () => Good as ModelClass, reliesOn }],
    });

  test('an attribute and a parameter of the built model are looked at', async () => {
    const plugin = relyingOn({ attributes: ['attention'], parameters: ['norm', 'attention.weight'] });
    expect(await check('contract holds', plugin)).toMatchObject({ outcome: 'held', detail: 'all that `reliesOn` names is there' });
  });

  test('without a manifest a copied method is not checked, and the detail says why', async () => {
    const { outcome, detail } = await check('contract holds', relyingOn({ copied: { 'Attention.scale': 'a1b2' } }));
    expect(outcome).toBe('not checked');
    expect(detail).toContain('plugin "core" has no manifest');
  });

  test('what is no longer there is an error that names each', async () => {
    const plugin = relyingOn({ attributes: ['attn'], parameters: ['final_norm'] });
    await expect(check('contract holds', plugin)).rejects.toMatchObject({
      code: 'GRAFT_CONTRACT_BROKEN',
      what: expect.stringMatching(/"attn"[\s\S]*"final_norm"/),
      where: 'plugin "relying" (passed in code)',
    });
  });
});

describe('init keeps the parameters', () => {
  test('names those that the override builds otherwise than upstream', async () => {
    class Other extends Llama {
      readonly scales = new Weight();
      override readonly norm: Weight = Object.assign(new Weight(), { shape: [4, 1] });
    }
    await expect(check('init keeps the parameters', overriding(Other))).rejects.toMatchObject({
      code: 'GRAFT_CHECK_PARAMETERS',
      what: 'The model\'s parameters differ from upstream\'s: "norm" was reshaped from [2, 2] to [4, 1]; "scales" was added.',
    });
  });

  test('and what a hook changes', async () => {
    class Dropping extends Llama {
      @InitHook()
      drop(): void {
        Reflect.deleteProperty(this, 'norm');
      }
    }
    await expect(check('init keeps the parameters', overriding(Dropping))).rejects.toMatchObject({
      code: 'GRAFT_HOOK_CHANGED_PARAMETERS',
      what: expect.stringContaining('"norm" was dropped'),
      where: 'Dropping.drop',
    });
  });
});

describe('phases repeat', () => {
  test('a hook that works on the first model only is found, with what the second lacks', async () => {
    let done = false;
    class Once extends Llama {
      @InitHook()
      flatten(patches: Patches): void {
        if (!done) patches.swapClass(this.attention, FlatAttention);
        done = true;
      }
    }
    await expect(check('phases repeat', overriding(Once))).rejects.toMatchObject({
      code: 'GRAFT_CHECK_REPEAT',
      what: expect.stringContaining('the second model lacks "patch 1: swapClass of Attention by Once.flatten'),
    });
  });

  test('a change without the ledger counts as well', async () => {
    let models = 0;
    class Counting extends Llama {
      @InitHook()
      number(): void {
        Object.assign(this, { [`number${models++}`]: true });
      }
    }
    await expect(check('phases repeat', overriding(Counting))).rejects.toMatchObject({
      code: 'GRAFT_CHECK_REPEAT',
      what: expect.stringContaining('number1'),
    });
  });
});

describe('undo restores', () => {
  const cases: [string, (model: Llama) => void, string][] = [
    [
      'a class',
      (model) => Object.setPrototypeOf(model.attention, FlatAttention.prototype),
      'attention is FlatAttention, and was Attention',
    ],
    ['a property', (model) => Object.assign(model, { norm: Object.assign(model.norm, { scaled: true }) }), 'norm.scaled was added'],
    ['a value', (model) => void model.norm.data.fill(7), 'norm.data holds other values'],
    [
      'a hidden property',
      (model) => void Object.defineProperty(model, 'context', { enumerable: false }),
      'context is not enumerable, and was so',
    ],
  ];
  test.each(cases)('names %s that a postLoad hook changed without the ledger', async (_name, change, says) => {
    const plugin = overriding(Plain, {
      hooks: [{ of: 'Llama', platform: 'cpu', phase: 'postLoad', reload: 'keep', run: (model: Llama) => change(model) }],
    });
    await expect(check('undo restores', plugin, { load })).rejects.toMatchObject({
      code: 'GRAFT_CHECK_UNDO',
      what: `After a phase was undone, the model is not as it was: ${says}.`,
    });
  });
});

describe('copies share nothing', () => {
  test('names a module that two models hold, a lent one too', async () => {
    const shared = new Attention();
    class Sharing extends Llama {
      @InitHook()
      lend(patches: Patches): void {
        patches.lend(this, 'flat', shared);
      }
    }
    await expect(check('copies share nothing', overriding(Sharing))).rejects.toMatchObject({
      code: 'GRAFT_CHECK_SHARED',
      what: 'Two copies of the model in one process share parts: flat (Attention).',
    });
  });

  const Cache = token<object>('Cache', 'engine');
  const Runner = token<object>('Runner', 'model');

  test('names a service that was made at the top of a module', async () => {
    const cache = {};
    const plugin = overriding(Plain, { bind: (bind) => bind(Cache).toDynamicValue(() => cache) });
    await expect(check('copies share nothing', plugin)).rejects.toMatchObject({
      code: 'GRAFT_CHECK_SHARED',
      what: expect.stringContaining('the service Cache'),
    });
  });

  test('lets two engines share a frozen constant, also a function', async () => {
    const policy = token<() => string>('Policy', 'engine');
    const withPolicy = (value: () => string) => overriding(Plain, { bind: (bind) => bind(policy).toConstantValue(value) });
    await expect(
      check(
        'copies share nothing',
        withPolicy(() => 'float32'),
      ),
    ).rejects.toThrow('the service Policy');
    await check('copies share nothing', withPolicy(Object.freeze(() => 'float32')));
  });

  test('builds services apart, with what the application binds, and disposes them', async () => {
    const Config = token<Context>('Config', 'model');
    let alive = 0;
    const plugin = overriding(Plain, {
      bind(bind) {
        bind(Cache).toConstantValue(Object.freeze({ shared: true }));
        bind(Runner).toDynamicValue(async (services) => {
          const config = await services.get(Config);
          alive++;
          return { config, [Symbol.dispose]: () => alive-- };
        });
      },
    });
    expect(await check('copies share nothing', plugin)).toMatchObject({
      outcome: 'held',
      detail: expect.stringMatching(/1 services; not built: Runner \(Nothing binds Config\.\)$/),
    });
    const bind: CheckPluginOptions<Context, Llama>['bind'] = ({ model }, from) => model.bind(Config).toConstantValue(from);
    expect((await check('copies share nothing', plugin, { bind })).detail).toMatch(/2 services$/);
    expect(alive).toBe(0);
  });
});

describe('reload equals a fresh load', () => {
  const weights: Record<string, number[]> = { a: [1, 2], b: [3, 4] };
  interface Running {
    now: number[];
  }
  let open = 0;
  const working: ReloadSubject<Running> = {
    checkpoints: ['a', 'b'],
    load: async (checkpoint) => {
      open++;
      return { now: weights[checkpoint]! };
    },
    reload: async (running, checkpoint) => {
      running.now = weights[checkpoint]!;
    },
    outputs: async ({ now }) => now.map((value) => value / 3),
    close: async () => open--,
  };

  test('holds over three reloads, and closes what it loaded', async () => {
    let reloads = 0;
    const reload: typeof working.reload = (running, checkpoint) => {
      reloads++;
      return working.reload(running, checkpoint);
    };
    expect(await checkReloadEqualsFreshLoad({ ...working, reload })).toEqual({
      outcome: 'held',
      detail: '3 reloads, 2 outputs each, bit for bit',
    });
    expect([reloads, open]).toEqual([3, 0]);
  });

  test.each([
    ['does nothing', async () => {}, 'after reload 1, number 0 is'],
    ['works once', async (running: Running) => void (running.now = weights['b']!), 'after reload 2'],
    [
      'loses a sign',
      async (running: Running, to: string) => void (running.now = weights[to]!.map((value) => value + 2 ** -30)),
      'number 0 is',
    ],
  ])('a reload that %s is found', async (_name, reload, says) => {
    await expect(checkReloadEqualsFreshLoad({ ...working, reload })).rejects.toMatchObject({
      code: 'GRAFT_CHECK_RELOAD',
      what: expect.stringContaining(says),
    });
  });

  test('two checkpoints of the same weights would show nothing, and are refused', async () => {
    await expect(checkReloadEqualsFreshLoad({ ...working, checkpoints: ['a', 'a'] })).rejects.toMatchObject({
      code: 'GRAFT_CHECK_RELOAD',
      what: expect.stringContaining('the same 2 outputs'),
    });
  });
});
