import { inject, type ServiceIdentifier } from 'inversify';
import { expect, test } from 'vitest';
import { BindingRecorder } from './binder.ts';
import { EngineContainer } from './containers.ts';
import { token } from './tokens.ts';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

interface Backend {
  device: string;
}
const Backend: ServiceIdentifier<Backend> = token('Backend', 'engine');
const Config: ServiceIdentifier<{ threads: number }> = token('Config', 'engine');
const Limits: ServiceIdentifier<{ rows: number }> = token('Limits', 'engine');
const Context: ServiceIdentifier<{ model: string }> = token('Context', 'model');
const Runner: ServiceIdentifier<BaseRunner> = token('Runner', 'model');

class BaseRunner {
  readonly backend: Backend;
  readonly context: { model: string };
  constructor(@inject(Backend) backend: Backend, @inject(Context) context: { model: string }) {
    this.backend = backend;
    this.context = context;
  }
}

function engineWith(backend: Backend): EngineContainer {
  const engine = new EngineContainer();
  engine.bind(Backend).toConstantValue(backend);
  return engine;
}

test('a class takes the services of its model and of the engine', () => {
  const engine = engineWith({ device: 'cpu' });
  const model = engine.createModelContainer();
  model.bind(Context).toConstantValue({ model: 'a' });
  model.bind(Runner).to(BaseRunner);
  expect(model.get(Runner)).toMatchObject({ backend: { device: 'cpu' }, context: { model: 'a' } });
  expect(model.get(Runner)).toBe(model.get(Runner));
});

test('R5 an undecorated subclass of a runner gets all of its base’s collaborators, however deep', () => {
  class Middle extends BaseRunner {}
  class Mine extends Middle {
    readonly buckets = [1, 2];
  }
  const model = engineWith({ device: 'cpu' }).createModelContainer();
  model.bind(Context).toConstantValue({ model: 'a' });
  model.bind(Runner).to(Mine);
  expect(model.get(Runner)).toMatchObject({ backend: { device: 'cpu' }, context: { model: 'a' }, buckets: [1, 2] });
});

test('R5 a subclass whose constructor takes parameters without @inject is refused when it is bound', () => {
  class Mine extends BaseRunner {
    constructor(backend: Backend, context: { model: string }) {
      super(backend, context);
    }
  }
  class Plain {
    readonly backend: Backend;
    constructor(backend: Backend) {
      this.backend = backend;
    }
  }
  const model = engineWith({ device: 'cpu' }).createModelContainer();
  expect(() => model.bind(Runner).to(Mine)).toThrow(
    code('GRAFT_SERVICE_NOT_INJECTABLE', { what: expect.stringContaining('Mine takes 2 parameters, and 0') }),
  );
  expect(() => model.bind(token<Plain>('Plain', 'model')).to(Plain)).toThrow(code('GRAFT_SERVICE_NOT_INJECTABLE'));
});

test('R5 an undecorated subclass of a backend gets its collaborators as the constructor or as properties, and each is never undefined', () => {
  class CpuBackend {
    readonly device = 'cpu';
    readonly config: { threads: number };
    @inject(Limits) readonly limits!: { rows: number };
    constructor(@inject(Config) config: { threads: number }) {
      this.config = config;
    }
  }
  class MyBackend extends CpuBackend {
    constructor(...services: ConstructorParameters<typeof CpuBackend>) {
      super(...services);
    }
  }
  class MineToo extends MyBackend {}
  for (const Class of [CpuBackend, MyBackend, MineToo]) {
    const engine = new EngineContainer();
    engine.bind(Config).toConstantValue({ threads: 2 });
    engine.bind(Limits).toConstantValue({ rows: 8 });
    engine.bind(Backend).to(Class);
    expect(engine.get(Backend)).toMatchObject({ device: 'cpu', config: { threads: 2 }, limits: { rows: 8 } });
  }
});

test('R5 a collaborator that nothing binds is an error, never undefined', () => {
  class Mine extends BaseRunner {}
  const model = new EngineContainer().createModelContainer();
  model.bind(Context).toConstantValue({ model: 'a' });
  model.bind(Runner).to(Mine);
  expect(() => model.get(Runner)).toThrow(code('GRAFT_SERVICE_NOT_BOUND', { what: 'Nothing binds Backend.' }));
});

test('a subclass may inject its own parameters', () => {
  class Mine extends BaseRunner {
    readonly threads: number;
    constructor(
      @inject(Config) config: { threads: number },
      @inject(Backend) backend: Backend,
      @inject(Context) context: { model: string },
    ) {
      super(backend, context);
      this.threads = config.threads;
    }
  }
  const engine = engineWith({ device: 'cpu' });
  engine.bind(Config).toConstantValue({ threads: 3 });
  const model = engine.createModelContainer();
  model.bind(Context).toConstantValue({ model: 'a' });
  model.bind(Runner).to(Mine);
  expect(model.get(Runner)).toMatchObject({ threads: 3, backend: { device: 'cpu' } });
});

test.each(['engine first', 'model first'])('R6 two engines and two models in one process share no service (%s)', (order) => {
  const Logger: ServiceIdentifier<{ id: object }> = token('Logger', 'engine');
  const Cache: ServiceIdentifier<{ id: object }> = token('Cache', 'model');
  const make = () => {
    const engine = new EngineContainer();
    engine.bind(Logger).toDynamicValue(() => ({ id: {} }));
    const models = [0, 1].map(() => {
      const model = engine.createModelContainer();
      model.bind(Cache).toDynamicValue(() => ({ id: {} }));
      return model;
    });
    return { engine, models };
  };
  const [a, b] = [make(), make()];
  if (order === 'engine first') a.engine.get(Logger);
  const caches = [...a.models, ...b.models].map((model) => model.get(Cache));
  expect(new Set(caches).size).toBe(4);
  const loggers = [...a.models, a.engine, ...b.models, b.engine].map((container) => container.get(Logger));
  expect(new Set(loggers.slice(0, 3)).size).toBe(1);
  expect(new Set(loggers.slice(3)).size).toBe(1);
  expect(loggers[0]).not.toBe(loggers[3]);
});

test('an engine service asked for through a model never captures a service of that model', () => {
  class Greedy {
    readonly context: unknown;
    constructor(@inject(Context) context: unknown) {
      this.context = context;
    }
  }
  const GreedyToken: ServiceIdentifier<Greedy> = token('Greedy', 'engine');
  const engine = new EngineContainer();
  engine.bind(GreedyToken).to(Greedy);
  const model = engine.createModelContainer();
  model.bind(Context).toConstantValue({ model: 'a' });
  expect(() => model.get(GreedyToken)).toThrow(code('GRAFT_SERVICE_NOT_BOUND', { what: 'Nothing binds Context.' }));
});

test('a token of the other scope is refused', () => {
  const engine = new EngineContainer();
  expect(() => engine.bind(Context)).toThrow(code('GRAFT_TOKEN_SCOPE'));
  expect(() => engine.get(Context)).toThrow(code('GRAFT_TOKEN_SCOPE'));
  expect(() => engine.createModelContainer().bind(Backend)).toThrow(code('GRAFT_TOKEN_SCOPE'));
  expect(() => engine.bind(Symbol('Backend'))).toThrow(code('GRAFT_TOKEN_INVALID'));
});

test('a service that nothing binds is named, with who needs it', () => {
  const model = new EngineContainer().createModelContainer();
  model.bind(Context).toConstantValue({ model: 'a' });
  model.bind(Runner).to(BaseRunner);
  const where = 'token Backend (engine), needed for Runner of plugin "application" (passed in code)';
  expect(() => model.get(Runner)).toThrow(code('GRAFT_SERVICE_NOT_BOUND', { where }));
  const Built = token<object>('Built', 'model');
  model.bind(Built).toDynamicValue((services) => services.get(Runner));
  expect(() => model.get(Built)).toThrow(code('GRAFT_SERVICE_NOT_BOUND', { where })); // the innermost, whoever asked first
  expect(() => model.get(Backend)).toThrow(code('GRAFT_SERVICE_NOT_BOUND', { where: 'token Backend (engine)' }));
  const BackendOfCpu: ServiceIdentifier<Backend> = token('Backend(cpu)', 'engine');
  class CpuRunner {
    readonly backend: Backend;
    constructor(@inject(BackendOfCpu) backend: Backend) {
      this.backend = backend;
    }
  }
  const CpuRunnerToken: ServiceIdentifier<CpuRunner> = token('CpuRunner', 'model');
  model.bind(CpuRunnerToken).to(CpuRunner);
  expect(() => model.get(CpuRunnerToken)).toThrow(code('GRAFT_SERVICE_NOT_BOUND', { what: 'Nothing binds Backend(cpu).' }));
});

test('a token bound twice names both plugins', () => {
  const recorder = new BindingRecorder('engine', { plugin: 'cpu', file: null });
  recorder.bind(Backend).toConstantValue({ device: 'cpu' });
  expect(() => recorder.bind(Backend).toConstantValue({ device: 'cpu' })).toThrow(code('GRAFT_TOKEN_CONFLICT'));
  const engine = new EngineContainer(recorder.bindings);
  expect(() => engine.bind(Backend).toConstantValue({ device: 'x' })).toThrow(
    code('GRAFT_TOKEN_CONFLICT', { where: expect.stringMatching(/"cpu".*"application"/) }),
  );
});

test('an asynchronous service is built once, and available synchronously when it is ready', async () => {
  const engine = new EngineContainer();
  let builds = 0;
  engine.bind(Backend).toDynamicValue(async () => {
    builds += 1;
    return { device: 'cpu' };
  });
  expect(() => engine.get(Backend)).toThrow(code('GRAFT_SERVICE_ASYNC'));
  const [first, second] = await Promise.all([engine.getAsync(Backend), engine.getAsync(Backend)]);
  expect(first).toBe(second);
  expect(engine.get(Backend)).toBe(first);
  expect(builds).toBe(1);
});

test('a failed asynchronous singleton is not kept: the next request builds it again, through a class too', async () => {
  const engine = new EngineContainer();
  let builds = 0;
  engine.bind(Backend).toDynamicValue(async () => {
    builds += 1;
    if (builds === 1) throw new Error('library not found');
    return { device: 'cpu' };
  });
  const model = engine.createModelContainer();
  model.bind(Context).toConstantValue({ model: 'a' });
  model.bind(Runner).to(BaseRunner);
  await expect(model.getAsync(Runner)).rejects.toThrow(
    code('GRAFT_SERVICE_FAILED', { what: 'Building Backend failed: library not found' }),
  );
  expect((await model.getAsync(Runner)).backend.device).toBe('cpu');
  expect(await model.getAsync(Runner)).toBe(model.get(Runner));
});

test('a synchronous request of a class with an asynchronous collaborator is refused without building it', async () => {
  let built = 0;
  class Counted extends BaseRunner {
    readonly count = ++built;
  }
  const engine = new EngineContainer();
  engine.bind(Backend).toDynamicValue(async () => ({ device: 'cpu' }));
  const model = engine.createModelContainer();
  model.bind(Context).toConstantValue({ model: 'a' });
  model.bind(Runner).to(Counted);
  expect(() => model.get(Runner)).toThrow(code('GRAFT_SERVICE_ASYNC'));
  await model.getAsync(Runner);
  expect(built).toBe(1);
});

test('a service that needs itself is refused', () => {
  const engine = new EngineContainer();
  engine.bind(Backend).toDynamicValue((services) => ({ device: String(services.get(Config).threads) }));
  engine.bind(Config).toDynamicValue((services) => ({ threads: Number(services.get(Backend).device) }));
  expect(() => engine.get(Backend)).toThrow(code('GRAFT_SERVICE_CYCLE'));
});

test('disposal takes what was built, last in first out, and leaves constants alone', async () => {
  const order: string[] = [];
  const resource = (name: string) => ({ [Symbol.dispose]: () => void order.push(name) });
  const A: ServiceIdentifier<object> = token('A', 'engine');
  const B: ServiceIdentifier<object> = token('B', 'engine');
  const C: ServiceIdentifier<object> = token('C', 'engine');
  const engine = new EngineContainer();
  engine.bind(A).toDynamicValue(() => resource('A'));
  engine.bind(B).toDynamicValue((services) => {
    services.get(A);
    return resource('B');
  });
  engine.bind(C).toConstantValue(resource('C'));
  engine.get(B);
  engine.get(C);
  await engine[Symbol.asyncDispose]();
  await engine[Symbol.asyncDispose]();
  expect(order).toEqual(['B', 'A']);
  expect(() => engine.get(A)).toThrow(code('GRAFT_DISPOSED'));
});

test('a recorder that is closed binds nothing more', () => {
  const recorder = new BindingRecorder('engine', { plugin: 'late', file: null });
  recorder.close();
  expect(() => recorder.bind(Backend).toConstantValue({ device: 'x' })).toThrow(code('GRAFT_BINDER_CLOSED'));
});

test('disposal waits for a service that is still being built, and disposes it', async () => {
  const Slow: ServiceIdentifier<Disposable> = token('Slow', 'engine');
  let disposed = 0;
  const engine = new EngineContainer();
  engine.bind(Slow).toDynamicValue(async () => {
    await new Promise((resolve) => setTimeout(resolve, 2));
    return { [Symbol.dispose]: () => void (disposed += 1) };
  });
  const slow = engine.getAsync(Slow);
  await engine[Symbol.asyncDispose]();
  await slow;
  expect(disposed).toBe(1);
});

test('a request whose caller has gone away leaves no unhandled rejection', async () => {
  const unhandled: unknown[] = [];
  const listen = (reason: unknown) => unhandled.push(reason);
  process.on('unhandledRejection', listen);
  const engine = new EngineContainer();
  engine.bind(Backend).toDynamicValue(async () => {
    throw new Error('library not found');
  });
  expect(() => engine.get(Backend)).toThrow(code('GRAFT_SERVICE_ASYNC'));
  await new Promise((resolve) => setTimeout(resolve, 5));
  process.off('unhandledRejection', listen);
  expect(unhandled).toEqual([]);
});
