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
import {
  type CheckPluginOptions,
  type CheckSubject,
  checkContractHolds,
  checkCopiesShareNothing,
  checkInitKeepsParameters,
  checkPhasesRepeat,
  checkPlugin,
  checkReloadEqualsFreshLoad,
  checkUndoRestores,
  type ReloadSubject,
} from '../testing.ts';

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

const core = definePlugin({ name: 'core', models: [{ architecture: 'Llama', model: async () => Llama }] });
const context = () => ({ layers: 1 });

function overriding(model: ModelClass<Context, Llama>, more: Partial<PluginDeclaration> = {}): Plugin {
  return definePlugin({
    name: 'vendor',
    after: ['core'],
    overrides: [{ of: 'Llama', platform: 'cpu', model: async () => model as ModelClass }],
    ...more,
  });
}

const subject = (plugin: Plugin): CheckSubject<Context, Llama> => ({
  plugin,
  needs: [core],
  architecture: 'Llama',
  platform: 'cpu',
  context,
});

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
    const report = await checkPlugin(overriding(Good), { ...options, modes: ['eager', 'compile'] });
    const rows = report.records.map(({ property, mode, outcome }) => [property, mode, outcome]);
    const properties = (mode: string) => [
      ['contract holds', mode, 'not checked'],
      ['init keeps the parameters', mode, 'held'],
      ['phases repeat', mode, 'held'],
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
    expect(String(error)).toMatch(/failed +undo restores +Llama on cpu +GRAFT_CHECK_UNDO: .*attention\.flattened was added/);
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

test.each([
  ['another platform', { platform: 'cpuu' }, 'brings for models (Llama on cpu)'],
  [
    'an override that another outranks',
    {
      needs: [
        core,
        overriding(Good, {
          name: 'other',
          overrides: [{ of: 'Llama', platform: 'cpu', priority: 9, model: async () => Good as ModelClass }],
        }),
      ],
    },
    'outranks',
  ],
])('a check of %s would show nothing, and is refused', async (_name, change, says) => {
  const wrong = { ...subject(overriding(Good)), ...change };
  await expect(checkUndoRestores(wrong)).rejects.toMatchObject({ code: 'GRAFT_CHECK_TARGET', message: expect.stringContaining(says) });
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
    expect(await checkContractHolds(subject(plugin))).toEqual({ outcome: 'held', detail: 'all that `reliesOn` names is there' });
  });

  test('without a manifest a copied method is not checked, and the detail says why', async () => {
    const { outcome, detail } = await checkContractHolds(subject(relyingOn({ copied: { 'Attention.scale': 'a1b2' } })));
    expect(outcome).toBe('not checked');
    expect(detail).toContain('plugin "core" has no manifest');
  });

  test('what is no longer there is an error that names each', async () => {
    const plugin = relyingOn({ attributes: ['attn'], parameters: ['final_norm'] });
    await expect(checkContractHolds(subject(plugin))).rejects.toMatchObject({
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
    await expect(checkInitKeepsParameters(subject(overriding(Other)))).rejects.toMatchObject({
      code: 'GRAFT_CHECK_PARAMETERS',
      what: 'Other has other parameters than upstream\'s class: "scales" is new; "norm" is float32 [4, 1], and float32 [2, 2] upstream.',
    });
  });

  test('and what a hook changes', async () => {
    class Dropping extends Llama {
      @InitHook()
      drop(): void {
        Reflect.deleteProperty(this, 'norm');
      }
    }
    await expect(checkInitKeepsParameters(subject(overriding(Dropping)))).rejects.toMatchObject({
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
    await expect(checkPhasesRepeat(subject(overriding(Once)))).rejects.toMatchObject({
      code: 'GRAFT_CHECK_REPEAT',
      what: expect.stringContaining('the second model lacks "patch 1: swapClass of Attention by Once.flatten'),
    });
  });

  test('a change beside the ledger counts as well', async () => {
    let models = 0;
    class Counting extends Llama {
      @InitHook()
      number(): void {
        Object.assign(this, { [`number${models++}`]: true });
      }
    }
    await expect(checkPhasesRepeat(subject(overriding(Counting)))).rejects.toMatchObject({
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
  test.each(cases)('names %s that a postLoad hook changed beside the ledger', async (_name, change, says) => {
    const plugin = overriding(Plain, {
      hooks: [{ of: 'Llama', platform: 'cpu', phase: 'postLoad', reload: 'keep', run: (model: Llama) => change(model) }],
    });
    await expect(checkUndoRestores({ ...subject(plugin), load })).rejects.toMatchObject({
      code: 'GRAFT_CHECK_UNDO',
      what: `After phase postLoad was undone, the model is not as it was: ${says}.`,
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
    await expect(checkCopiesShareNothing(subject(overriding(Sharing)))).rejects.toMatchObject({
      code: 'GRAFT_CHECK_SHARED',
      what: 'Two copies of the model in one process share flat (Attention).',
    });
  });

  const Cache = token<object>('Cache', 'engine');
  const Runner = token<object>('Runner', 'model');

  test('names a service that was made at the top of a module', async () => {
    const cache = {};
    const plugin = overriding(Plain, { bindEngine: (bind) => bind.bind(Cache).toDynamicValue(() => cache) });
    await expect(checkCopiesShareNothing(subject(plugin))).rejects.toMatchObject({
      code: 'GRAFT_CHECK_SHARED',
      what: expect.stringContaining('the service Cache'),
    });
  });

  test('lets two engines share a frozen constant, also a function', async () => {
    const policy = token<() => string>('Policy', 'engine');
    const withPolicy = (value: () => string) => overriding(Plain, { bindEngine: (bind) => bind.bind(policy).toConstantValue(value) });
    await expect(checkCopiesShareNothing(subject(withPolicy(() => 'float32')))).rejects.toThrow('the service Policy');
    await checkCopiesShareNothing(subject(withPolicy(Object.freeze(() => 'float32'))));
  });

  test('builds services apart, with what the application binds, and disposes them', async () => {
    const Config = token<Context>('Config', 'model');
    let alive = 0;
    const plugin = overriding(Plain, {
      bindEngine: (bind) => bind.bind(Cache).toConstantValue(Object.freeze({ shared: true })),
      bindModel: (bind) =>
        bind.bind(Runner).toDynamicValue((services) => {
          const config = services.get(Config);
          alive++;
          return { config, [Symbol.dispose]: () => alive-- };
        }),
    });
    expect(await checkCopiesShareNothing(subject(plugin))).toMatchObject({
      outcome: 'held',
      detail: expect.stringMatching(/1 services; not built: Runner \(Nothing binds Config\.\)$/),
    });
    const bind: Parameters<typeof checkCopiesShareNothing<Context, Llama>>[0]['bind'] = ({ model }, from) =>
      model.bind(Config).toConstantValue(from);
    expect((await checkCopiesShareNothing({ ...subject(plugin), bind })).detail).toMatch(/2 services$/);
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
    ['does nothing', async () => {}, 'After reload 1, outputs are not those of a fresh load: number 0 is'],
    ['works once', async (running: Running) => void (running.now = weights['b']!), 'After reload 2'],
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
