import { DisposedError, GraftError, messageOf } from '@graft/common';
import { Container, type ServiceIdentifier } from 'inversify';
import { type Binding, type BindingSyntax, bindingSyntax, type Services } from './binder.ts';
import { nearestNames } from './names.ts';
import type { Owner } from './registration.ts';
import {
  ServiceAsyncError,
  ServiceCycleError,
  ServiceFailedError,
  ServiceNotBoundError,
  TokenConflictError,
  TokenScopeError,
} from './service-errors.ts';
import { type Scope, type TokenFacts, tokenFacts } from './tokens.ts';

const applicationOwner: Owner = { plugin: 'application', file: null };

/** Whether the request in progress can wait. Requests nest synchronously, so one flag for an engine and its models is exact. */
interface RequestMode {
  sync: boolean;
}

/**
 * One service per token. Each is built at its first request, with the services of the container that it was bound in: a model's services are
 * never captured by the engine's. inversify finds constructor parameters; instances are kept here, since it would keep a rejected promise for ever.
 */
abstract class ServiceContainer implements Services, AsyncDisposable {
  abstract readonly scope: Scope;
  protected readonly container: Container;
  protected readonly mode: RequestMode;
  private readonly bindings = new Map<ServiceIdentifier, Binding>();
  private readonly built: unknown[] = [];
  private readonly building = new Set<Promise<unknown>>();
  private disposed = false;

  protected constructor(container: Container, mode: RequestMode) {
    this.container = container;
    this.mode = mode;
  }

  /** Binds for the application that owns this container; plugins bind through `bindEngine` and `bindModel`. */
  bind<T>(token: ServiceIdentifier<T>): BindingSyntax<T> {
    return bindingSyntax(token, this.scope, applicationOwner, (binding) => this.apply(binding));
  }

  get<T>(token: ServiceIdentifier<T>): T {
    return this.request(token, true, () => this.container.get(token));
  }

  async getAsync<T>(token: ServiceIdentifier<T>): Promise<T> {
    try {
      return await this.request(token, false, () => this.container.getAsync(token));
    } catch (error) {
      throw this.translate(error);
    }
  }

  has(token: ServiceIdentifier): boolean {
    return this.container.isBound(token);
  }

  /** What is bound, as data: token, scope and owner. */
  describe(): { token: string; scope: Scope; plugin: string; file: string | null }[] {
    return [...this.bindings.values()].map(({ name, scope, owner }) => ({ token: name, scope, ...owner }));
  }

  /** Adds a recorded binding. */
  apply(binding: Binding): void {
    const rival = this.bindings.get(binding.token);
    if (rival !== undefined) throw new TokenConflictError(binding.name, rival.owner, binding.owner);
    const { source, token } = binding;
    if (source.kind === 'constant') {
      this.container.bind(token).toConstantValue(source.value);
    } else if (source.kind === 'dynamic') {
      this.container.bind(token).toDynamicValue(this.kept(binding, () => source.build(this)));
    } else {
      const construction = Symbol(`class of ${binding.name}`);
      this.container.bind(construction).to(source.Class).inTransientScope();
      const build = () => (this.mode.sync ? this.container.get(construction) : this.container.getAsync(construction));
      this.container.bind(token).toDynamicValue(this.kept(binding, build));
    }
    this.bindings.set(token, binding);
  }

  /** Waits for what is being built, then disposes what was built here, last in first out; constants belong to who made them. Twice without harm. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.disposed = true;
    await Promise.allSettled(this.building);
    const errors: unknown[] = [];
    for (const service of this.built.splice(0).reverse()) {
      try {
        await disposeService(service);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /** Keeps what `build` gives, once it has succeeded. */
  private kept(binding: Binding, build: () => unknown): () => unknown {
    let settled: { value: unknown } | undefined;
    let pending: Promise<unknown> | undefined;
    let building = false;
    const keep = (value: unknown) => {
      settled = { value };
      this.built.push(value);
      return value;
    };
    return () => {
      if (settled !== undefined) return settled.value;
      if (building) throw new ServiceCycleError(binding.name, binding.owner);
      if (pending === undefined) {
        building = true;
        let result: unknown;
        try {
          result = build();
        } catch (error) {
          throw this.failure(error, binding);
        } finally {
          building = false;
        }
        if (!(result instanceof Promise)) return keep(result);
        const started = result.then(keep, (error: unknown) => Promise.reject(this.failure(error, binding)));
        pending = started;
        this.building.add(started);
        const ended = () => {
          pending = undefined;
          this.building.delete(started);
        };
        // Taken care of here too: a synchronous request leaves the promise to the next caller, and its rejection must not end the process.
        started.then(ended, ended);
      }
      if (this.mode.sync) throw new ServiceAsyncError(binding.name, binding.owner);
      return pending;
    };
  }

  private request<R>(token: ServiceIdentifier, sync: boolean, resolve: () => R): R {
    if (this.disposed) throw new DisposedError(`The ${this.scope} container`);
    const facts = tokenFacts(token);
    if (facts.scope === 'model' && this.scope === 'engine') throw new TokenScopeError(facts, 'engine', null);
    if (!this.has(token)) throw this.notBound(facts);
    const outer = this.mode.sync;
    this.mode.sync = sync;
    try {
      return resolve();
    } catch (error) {
      throw this.translate(error);
    } finally {
      this.mode.sync = outer;
    }
  }

  private failure(error: unknown, binding: Binding): unknown {
    const translated = this.translate(error);
    if (translated instanceof ServiceNotBoundError) return translated.neededFor(binding.name, binding.owner);
    return GraftError.is(translated) ? translated : new ServiceFailedError(binding.name, binding.owner, messageOf(error), error);
  }

  /** inversify names a missing parameter in its message only; here it becomes an error with a code. */
  private translate(error: unknown): unknown {
    if (GraftError.is(error)) return error;
    const missing = /^No bindings found for service: "Symbol\((engine|model):(.+)\)"/.exec(messageOf(error));
    if (missing === null) return error;
    const [, scope, name] = missing;
    return this.notBound({ name: name!, scope: scope as Scope });
  }

  private notBound({ name, scope }: TokenFacts): ServiceNotBoundError {
    return new ServiceNotBoundError({ name, scope, nearest: nearestNames(name, this.boundNames()) });
  }

  protected boundNames(): string[] {
    return [...this.bindings.values()].map(({ name }) => name);
  }
}

/** The services that live as long as the engine: platform, backend, configuration. Nothing of a model is bound here. */
export class EngineContainer extends ServiceContainer {
  readonly scope = 'engine';
  private readonly modelBindings: readonly Binding[];

  constructor(bindings: readonly Binding[] = []) {
    super(new Container(), { sync: false });
    this.modelBindings = bindings.filter(({ scope }) => scope === 'model');
    for (const binding of bindings) if (binding.scope === 'engine') this.apply(binding);
  }

  /** A child for one loaded model: its own services, and the engine's. */
  createModelContainer(): ModelContainer {
    return new ModelContainer(this.container, this.mode, this.modelBindings, () => this.boundNames());
  }
}

/** The services of one loaded model. */
export class ModelContainer extends ServiceContainer {
  readonly scope = 'model';
  private readonly engineNames: () => string[];

  /** Made by `EngineContainer.createModelContainer`. */
  constructor(parent: Container, mode: RequestMode, bindings: readonly Binding[], engineNames: () => string[]) {
    super(new Container({ parent }), mode);
    this.engineNames = engineNames;
    for (const binding of bindings) this.apply(binding);
  }

  protected override boundNames(): string[] {
    return [...super.boundNames(), ...this.engineNames()];
  }
}

async function disposeService(service: unknown): Promise<void> {
  if (typeof service !== 'object' || service === null) return;
  if (Symbol.asyncDispose in service) await (service as AsyncDisposable)[Symbol.asyncDispose]();
  else if (Symbol.dispose in service) (service as Disposable)[Symbol.dispose]();
}
