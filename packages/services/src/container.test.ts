import { inject, injectable, optional } from 'inversify';
import { describe, expect, test } from 'vitest';
import { type Bind, type Binding, binder, collectBindings, defaultBindings } from './binder.ts';
import { ServiceContainer } from './container.ts';
import { describeServices, servicesText } from './describe.ts';
import { listToken, token } from './tokens.ts';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

interface Backend {
  device: string;
}
const Backend = token<Backend>('Backend');
const Config = token<{ threads: number }>('Config');
const Limits = token<{ rows: number }>('Limits');
const Context = token<{ model: string }>('Context', 'model');
const Runner = token<BaseRunner>('Runner', 'model');
const Filters = listToken<string>('Filters');
const Policy = token<{ next(): number }>('Policy', 'engine', ['next']);
const Policies = listToken<{ next(): number }>('Policies', 'engine', ['next']);
const Chooser = token<() => number>('Chooser', 'engine', 'function');

@injectable()
class BaseRunner {
  readonly backend: Backend;
  readonly context: { model: string };
  constructor(@inject(Backend) backend: Backend, @inject(Context) context: { model: string }) {
    this.backend = backend;
    this.context = context;
  }
}

/** An engine's container, with what the plugins bind. */
async function engineOf(...plugins: ((bind: Bind) => void)[]): Promise<ServiceContainer> {
  const bindings = await Promise.all(plugins.map((bind, i) => collectBindings({ plugin: `p${i}`, file: null }, bind)));
  return new ServiceContainer(bindings.flat());
}

const cpu = (bind: Bind): void => bind(Backend).toConstantValue({ device: 'cpu' });

/** The container of a model named a. */
async function modelOf(...plugins: ((bind: Bind) => void)[]): Promise<ServiceContainer> {
  const model = (await engineOf(...plugins)).createModelContainer();
  model.bind(Context).toConstantValue({ model: 'a' });
  return model;
}

const complete = { backend: { device: 'cpu' }, context: { model: 'a' } };

describe('a class that is bound', () => {
  test('takes the services of its model and of the engine', async () => {
    const model = await modelOf(cpu, (bind) => bind(Runner).to(BaseRunner));
    expect(await model.get(Runner)).toMatchObject(complete);
    expect(await model.get(Runner)).toBe(await model.get(Runner));
  });

  test('is imported when it is first asked for', async () => {
    let imports = 0;
    const model = await modelOf(cpu, (bind) =>
      bind(Runner).to(async () => {
        imports++;
        return BaseRunner;
      }),
    );
    expect(imports).toBe(0);
    expect(await model.get(Runner)).toMatchObject(complete);
    expect(imports).toBe(1);
  });

  test('and is an undecorated subclass gets all of its base’s collaborators, however deep', async () => {
    class Middle extends BaseRunner {}
    class Mine extends Middle {
      readonly buckets = [1, 2];
    }
    class Passing extends BaseRunner {
      constructor(...services: ConstructorParameters<typeof BaseRunner>) {
        super(...services);
      }
    }
    for (const Class of [Mine, Passing]) {
      const model = await modelOf(cpu, (bind) => bind(Runner).to(Class));
      expect(await model.get(Runner)).toMatchObject(complete);
    }
    expect((await (await modelOf(cpu, (bind) => bind(Runner).to(Mine))).get(Runner)) as Mine).toMatchObject({ buckets: [1, 2] });
  });

  test('gets fields too, and an optional collaborator where it is bound', async () => {
    class Device {
      readonly device = 'cpu';
      readonly config: { threads: number } | undefined;
      @inject(Limits) readonly limits!: { rows: number };
      constructor(@inject(Config) @optional() config?: { threads: number }) {
        this.config = config;
      }
    }
    class Mine extends Device {}
    for (const threads of [undefined, 2]) {
      const engine = await engineOf((bind) => bind(Backend).to(Mine));
      engine.bind(Limits).toConstantValue({ rows: 8 });
      if (threads !== undefined) engine.bind(Config).toConstantValue({ threads });
      expect(await engine.get(Backend)).toMatchObject({ limits: { rows: 8 }, config: threads && { threads } });
    }
  });

  test('and takes a parameter without @inject is refused: when it is bound, or imported', async () => {
    class Mine extends BaseRunner {
      constructor(backend: Backend, context: { model: string }) {
        super(backend, context);
      }
    }
    class Defaults extends BaseRunner {
      constructor(backend = { device: 'none' }, context = { model: ['a', 'b'].join(',') }) {
        super(backend, context);
      }
    }
    class Gap {
      constructor(_backend: Backend, @inject(Context) _context: unknown) {}
    }
    const refused = (what: string) => code('GRAFT_SERVICE_NOT_INJECTABLE', { what: expect.stringContaining(what) });
    await expect(engineOf((bind) => bind(Runner).to(Mine))).rejects.toThrow(refused('Mine takes 2 parameters, and 0'));
    await expect(engineOf((bind) => bind(Runner).to(Defaults))).rejects.toThrow(refused('Defaults takes 2 parameters, and 0'));
    await expect(engineOf((bind) => bind(token<Gap>('Gap')).to(Gap))).rejects.toThrow(refused('Gap takes 2 parameters, and 1'));
    const lazy = await modelOf(cpu, (bind) => bind(Runner).to(async () => Mine));
    await expect(lazy.get(Runner)).rejects.toThrow(
      code('GRAFT_SERVICE_NOT_INJECTABLE', { where: 'plugin "p1" (passed in code), which binds Runner to Mine' }),
    );
  });

  test('is built without being bound, where a builder or the application creates it', async () => {
    const model = await modelOf(cpu, (bind) => bind(Runner).toDynamicValue((services) => services.create(BaseRunner)));
    expect(await model.get(Runner)).toMatchObject(complete);
    expect(await model.create(BaseRunner)).toMatchObject(complete);
  });

  test('must be a class; any wrong call of the binder is refused in the words of that call', async () => {
    const wrong: [string, (bind: Bind) => unknown][] = [
      ['bind(Backend).to ', (bind) => bind(Backend).to(undefined as never)],
      ['bind(Backend).to ', (bind) => bind(Backend).to(7 as never)],
      ['bind(Backend).toDynamicValue ', (bind) => bind(Backend).toDynamicValue(3 as never)],
      ['bind.decorate(Backend) ', (bind) => bind.decorate(Backend, 5 as never)],
      ['"platfrm" is not a key here', (bind) => bind(Backend, { platfrm: 'cpu' } as never).to(BaseRunner as never)],
      ['bind(Backend) is not a valid binding: it binds nothing', (bind) => bind(Backend)],
      ['Backend is one service, not a list: write bind(Backend)', (bind) => bind.many(Backend as never).toConstantValue(1)],
      ['Filters is a list: write bind.many(Filters)', (bind) => bind(Filters).toConstantValue([])],
    ];
    for (const [what, bind] of wrong) {
      const error = code('GRAFT_BINDING_INVALID', { what: expect.stringContaining(what), where: 'plugin "p0" (passed in code)' });
      await expect(engineOf((on) => void bind(on))).rejects.toThrow(error);
    }
    const lazy = await engineOf((bind) => bind(Backend).to(async () => undefined as never));
    await expect(lazy.get(Backend)).rejects.toThrow(code('GRAFT_BINDING_INVALID', { what: expect.stringContaining('the imported class') }));
  });

  test('as an engine’s service never captures a service of a model', async () => {
    class Greedy {
      @inject(Context) readonly context: unknown;
    }
    const GreedyToken = token<Greedy>('Greedy');
    const model = await modelOf((bind) => bind(GreedyToken).to(Greedy));
    await expect(model.get(GreedyToken)).rejects.toThrow(code('GRAFT_TOKEN_SCOPE', { where: 'plugin "p0" (passed in code)' }));
  });
});

describe('a service', () => {
  test.each(['engine first', 'model first'])('is shared by no two engines and no two models of a process (%s)', async (order) => {
    const Logger = token<object>('Logger');
    const Cache = token<object>('Cache', 'model');
    const make = async () => {
      const engine = await engineOf((bind) => {
        bind(Logger).toDynamicValue(() => ({}));
        bind(Cache).toDynamicValue(() => ({}));
      });
      return { engine, models: [engine.createModelContainer(), engine.createModelContainer()] };
    };
    const [a, b] = [await make(), await make()];
    if (order === 'engine first') await a.engine.get(Logger);
    const caches = await Promise.all([...a.models, ...b.models].map((model) => model.get(Cache)));
    expect(new Set(caches).size).toBe(4);
    const loggers = await Promise.all([...a.models, a.engine, ...b.models, b.engine].map((container) => container.get(Logger)));
    expect([new Set(loggers.slice(0, 3)).size, new Set(loggers.slice(3)).size, new Set(loggers).size]).toEqual([1, 1, 2]);
  });

  test('that nothing binds is named, with who needs it', async () => {
    const Built = token<object>('Built', 'model');
    const model = await modelOf((bind) => {
      bind(Runner).to(BaseRunner);
      bind(Built).toDynamicValue((services) => services.get(Runner));
    });
    const where = 'token Backend (engine), needed for Runner of plugin "p0" (passed in code)';
    for (const asked of [Runner, Built])
      await expect(model.get(asked as typeof Built)).rejects.toThrow(code('GRAFT_SERVICE_NOT_BOUND', { where }));
    await expect(model.get(Backend)).rejects.toThrow(code('GRAFT_SERVICE_NOT_BOUND', { where: 'token Backend (engine)' }));
  });

  test.each<[string, (bind: Bind) => unknown]>([
    ['A binding of Backend gave undefined', (bind) => bind(Backend).toDynamicValue(() => undefined as never)],
    ['A decorator of Backend gave undefined', (bind) => [cpu(bind), bind.decorate(Backend, () => undefined as never)]],
    ['A binding of Policy gave an object without "next"', (bind) => bind(Policy).toConstantValue({} as never)],
    ['A binding of Policy gave null.', (bind) => bind(Policy).toConstantValue(null as never)],
    ['A binding of Policies gave 5.', (bind) => bind.many(Policies).toConstantValue(5 as never)],
    ['A decorator of Policies gave 5', (bind) => bind.decorate(Policies, () => 5 as never)],
    ['A decorator of Policies gave an object without "next"', (bind) => bind.decorate(Policies, () => [{}] as never)],
    ['A binding of Chooser gave an object', (bind) => bind(Chooser).toConstantValue({} as never)],
  ])('that its token does not allow is refused, and its plugin is named: %s', async (what, bind) => {
    const engine = await engineOf(
      () => undefined,
      (on) => void bind(on),
    );
    const token = [Backend, Policy, Policies, Chooser].find((one) => what.includes(`of ${one.description} `))!;
    const error = code('GRAFT_SERVICE_INVALID', { what: expect.stringContaining(what), where: 'plugin "p1" (passed in code)' });
    await expect(engine.get(token as typeof Backend)).rejects.toThrow(error);
  });

  test('that states another contract than its token is refused, and one that states none is taken', async () => {
    const Runner = token<{ contract?: number }>('Runner', 'engine', [], 2);
    const runner = (value: { contract?: number }) => engineOf((bind) => bind(Runner).toConstantValue(value));
    for (const value of [{}, { contract: 2 }]) expect(await (await runner(value)).get(Runner)).toBe(value);
    const error = {
      what: 'Runner was written for contract 1, and this version of Graft has contract 2.',
      where: 'plugin "p0" (passed in code)',
    };
    await expect((await runner({ contract: 1 })).get(Runner)).rejects.toThrow(code('GRAFT_CONTRACT_VERSION', error));
  });

  test('of the other scope is refused, and so is anything but a token', async () => {
    const engine = await engineOf();
    expect(() => engine.bind(Context).toConstantValue({ model: 'a' })).toThrow(code('GRAFT_TOKEN_SCOPE'));
    await expect(engine.get(Context)).rejects.toThrow(code('GRAFT_TOKEN_SCOPE'));
    expect(() => engine.createModelContainer().bind(Backend).toConstantValue({ device: 'x' })).toThrow(code('GRAFT_TOKEN_SCOPE'));
    expect(() => engine.bind(Symbol('Backend') as typeof Backend).toConstantValue({ device: 'x' })).toThrow(code('GRAFT_TOKEN_INVALID'));
  });

  test('that is built asynchronously is built once, and again where it failed, through a class too', async () => {
    let builds = 0;
    const model = await modelOf(
      (bind) =>
        bind(Backend).toDynamicValue(async () => {
          builds += 1;
          if (builds === 1) throw new Error('library not found');
          return { device: 'cpu' };
        }),
      (bind) => bind(Runner).to(BaseRunner),
    );
    await expect(model.get(Runner)).rejects.toThrow(code('GRAFT_SERVICE_FAILED', { what: 'Building Backend failed: library not found' }));
    const [one, two] = await Promise.all([model.get(Runner), model.get(Runner)]);
    expect([one === two, builds]).toEqual([true, 2]);
  });

  test('whose builder throws before it waits is built again too', async () => {
    let builds = 0;
    const engine = await engineOf((bind) =>
      bind(Backend).toDynamicValue(() => {
        if (++builds === 1) throw new Error('not yet');
        return { device: 'cpu' };
      }),
    );
    await expect(engine.get(Backend)).rejects.toThrow(code('GRAFT_SERVICE_FAILED'));
    expect(await engine.get(Backend)).toEqual({ device: 'cpu' });
  });

  test('that needs itself is refused, also where two requests begin at both ends', async () => {
    const engine = await engineOf((bind) => {
      bind(Backend).toDynamicValue(async (services) => ({ device: String((await services.get(Config)).threads) }));
      bind(Config).toDynamicValue(async (services) => ({ threads: Number((await services.get(Backend)).device) }));
    });
    const results = await Promise.allSettled([engine.get(Backend), engine.get(Config), engine.get(Backend)]);
    for (const result of results) expect(result).toMatchObject({ status: 'rejected', reason: { code: 'GRAFT_SERVICE_CYCLE' } });
  });
});

describe('a default', () => {
  test('gives way to what a plugin binds, whichever comes first', async () => {
    const engine = await engineOf(cpu);
    engine.bind(Backend).toConstantValue({ device: 'default' });
    engine.bind(Config).toConstantValue({ threads: 1 });
    expect([await engine.get(Backend), await engine.get(Config)]).toEqual([{ device: 'cpu' }, { threads: 1 }]);
  });
});

describe('decorators', () => {
  test('run in the order of the plugins, and may ask for services', async () => {
    const add = (text: string) => (bind: Bind) =>
      bind.decorate(Backend, async (inner, services) => ({ device: `${inner.device} ${text}${(await services.get(Config)).threads}` }));
    const engine = await engineOf(add('a'), cpu, add('b'));
    engine.bind(Config).toConstantValue({ threads: 2 });
    expect(await engine.get(Backend)).toEqual({ device: 'cpu a2 b2' });
  });

  test('of a list see all of its elements', async () => {
    const engine = await engineOf(
      (bind) => bind.decorate(Filters, (inner) => inner.toReversed()),
      (bind) => bind.many(Filters).toConstantValue('x'),
      (bind) => bind.many(Filters).toConstantValue('y'),
    );
    expect(await engine.get(Filters)).toEqual(['y', 'x']);
  });
});

describe('a list', () => {
  test('has the elements of all plugins in their order, and is empty where there are none', async () => {
    class Reader {
      @inject(Filters) readonly filters!: readonly string[];
    }
    const engine = await engineOf(
      (bind) => bind.many(Filters).toConstantValue('a'),
      (bind) => {
        bind.many(Filters).toDynamicValue(async () => 'b');
        bind.many(Filters).toConstantValue('c');
      },
    );
    engine.bind.many(Filters).toConstantValue('last');
    expect((await engine.create(Reader)).filters).toEqual(['a', 'b', 'c', 'last']);
    expect((await (await engineOf()).create(Reader)).filters).toEqual([]);
  });
});

describe('disposal', () => {
  const resource = (order: string[], name: string) => ({ [Symbol.dispose]: () => void order.push(name) });
  const A = token<object>('A');
  const B = token<object>('B');
  const C = token<object>('C');
  const OfModel = token<object>('OfModel', 'model');

  test('takes what was built, last in first out, models before their engine, and leaves constants alone', async () => {
    const order: string[] = [];
    const engine = await engineOf((bind) => {
      bind(A).toDynamicValue(() => resource(order, 'A'));
      bind(B).toDynamicValue(async (services) => {
        await services.get(A);
        return resource(order, 'B');
      });
      bind(C).toConstantValue(resource(order, 'C'));
      bind(OfModel).toDynamicValue(() => resource(order, 'of the model'));
    });
    const [model, other] = [engine.createModelContainer(), engine.createModelContainer()];
    for (const one of [model, other]) await one.get(OfModel);
    await engine.get(B);
    await engine.get(C);
    await model[Symbol.asyncDispose]();
    expect(order).toEqual(['of the model']);
    await expect(model.get(OfModel)).rejects.toThrow(code('GRAFT_DISPOSED'));
    await other.get(OfModel);
    await engine[Symbol.asyncDispose]();
    await engine[Symbol.asyncDispose]();
    expect(order).toEqual(['of the model', 'of the model', 'B', 'A']);
  });

  test('of an engine leaves nothing that builds services, in its models either', async () => {
    let builds = 0;
    const engine = await engineOf((bind) => {
      bind(A).toDynamicValue(() => ({ builds: ++builds }));
      bind(OfModel).toDynamicValue(() => ({ builds: ++builds }));
    });
    const model = engine.createModelContainer();
    await engine[Symbol.asyncDispose]();
    for (const asked of [engine.get(A), model.get(A), model.get(OfModel)]) await expect(asked).rejects.toThrow(code('GRAFT_DISPOSED'));
    expect(builds).toBe(0);
  });

  test('waits for a service that is still being built, and disposes it', async () => {
    const order: string[] = [];
    let resolve = (): void => undefined;
    const promise = new Promise<void>((done) => void (resolve = done));
    const engine = await engineOf((bind) =>
      bind(A).toDynamicValue(async () => {
        await promise;
        return resource(order, 'slow');
      }),
    );
    const slow = engine.get(A);
    const disposed = engine[Symbol.asyncDispose]();
    resolve();
    await disposed;
    await slow;
    expect(order).toEqual(['slow']);
  });
});

test('services are described: who bound what, what serves and why the rest does not, and where each is injected', async () => {
  const engine = (bind: Bind) => bind(Backend).toConstantValue({ device: 'default' });
  const bindings: Binding[] = [];
  const bind = binder({ plugin: 'mine', file: 'file:///mine.ts' }, (binding) => void bindings.push(binding));
  cpu(bind);
  bind(Runner).to(async () => BaseRunner);
  bind(Runner, { platform: 'cpuu' }).to(async () => BaseRunner);
  bind(Runner, { modes: ['lazy'] }).to(async () => BaseRunner);
  bind(Config).to(() => Promise.reject(new Error('no such file')));
  bind.many(Filters).toConstantValue('x');
  bind.decorate(Backend, (inner) => inner);
  const records = await describeServices([...defaultBindings('engine', engine), ...bindings], {
    platform: 'cpu',
    mode: 'eager',
    platforms: ['cpu'],
  });
  const by = { plugin: 'mine', file: 'file:///mine.ts', unused: null };
  expect(records.find((record) => record.token === 'Backend')).toEqual({
    token: 'Backend',
    scope: 'engine',
    isList: false,
    bindings: [
      { plugin: 'engine', file: null, role: 'service', source: 'constant', unused: 'a plugin binds another' },
      { ...by, role: 'service', source: 'constant' },
      { ...by, role: 'decorator', source: 'builder' },
    ],
    injectedInto: ['BaseRunner'],
  });
  expect(servicesText(records).split('\n')).toEqual([
    'Backend (one for each engine)',
    '  - constant, by engine: unused, a plugin binds another',
    '  * constant, by mine (file:///mine.ts)',
    '  * decorator, by mine (file:///mine.ts)',
    '  injected into BaseRunner',
    'Config (one for each engine)',
    '  * class that cannot be imported: no such file, by mine (file:///mine.ts)',
    'Context (one for each loaded model)',
    '  - no plugin binds it',
    '  injected into BaseRunner',
    'Filters (a list, one for each engine)',
    '  * constant, by mine (file:///mine.ts)',
    'Runner (one for each loaded model)',
    '  * class BaseRunner, by mine (file:///mine.ts)',
    '  - class BaseRunner, by mine (file:///mine.ts): unused, no loaded plugin brings platform "cpuu" (nearest: "cpu")',
    '  - class BaseRunner, by mine (file:///mine.ts): unused, it is for mode lazy',
  ]);
});
