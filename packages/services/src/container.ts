import { DisposedError, GraftError, meantNames, nearestNames } from '@graft/common';
import { Container, type Newable } from 'inversify';
import { type Bind, type Binding, binder, requireNoRival, type Services } from './binder.ts';
import {
  type Bound,
  ContractVersionError,
  ServiceCycleError,
  ServiceFailedError,
  ServiceInvalidError,
  ServiceNotBoundError,
  TokenScopeError,
  TokenTwinError,
} from './errors.ts';
import { injectionsOf } from './injectable.ts';
import { noteOwner } from './owner.ts';
import { misfit, type Scope, type Token, type TokenFacts, tokenFacts } from './tokens.ts';

interface Service extends TokenFacts {
  readonly token: Token<unknown>;
  readonly bindings: Binding[];
  building: Promise<unknown> | null;
  /** Those that its building waits for now: a request that would close a circle is refused. */
  readonly waitsFor: Set<Service>;
}

interface Asker extends Bound {
  readonly service: Service;
}

/**
 * The services of one engine, or (a child) of one loaded model. Each is built when it is first asked for, after those that its class injects and in the
 * container of its scope, so an engine's service never captures a model's. inversify constructs the classes and holds what is built.
 */
export class ServiceContainer implements Services, AsyncDisposable {
  /** Binds for the application that owns the container: for what no plugin binds. */
  readonly bind: Bind;
  private readonly bindings: readonly Binding[];
  private readonly parent: ServiceContainer | null;
  private readonly elsewhere: readonly Binding[];
  private readonly children = new Set<ServiceContainer>();
  private readonly wiring: Container;
  private readonly services = new Map<Token<unknown>, Service>();
  private readonly built: unknown[] = [];
  private disposed = false;

  /** @param elsewhere bindings for platforms that no plugin brings, for errors. */
  constructor(
    bindings: readonly Binding[] = [],
    parent: ServiceContainer | null = null,
    elsewhere: readonly Binding[] = parent?.elsewhere ?? [],
  ) {
    this.bindings = bindings;
    this.elsewhere = elsewhere;
    this.parent = parent;
    this.wiring = new Container(parent === null ? {} : { parent: parent.wiring });
    for (const binding of bindings) if (binding.scope === this.scope) this.add(binding);
    this.bind = binder({ plugin: 'application', file: null, isDefault: true }, (binding) => this.add(binding));
  }

  get scope(): Scope {
    return this.parent === null ? 'engine' : 'model';
  }

  /** A child for one loaded model: its own services, and the engine's. */
  createModelContainer(): ServiceContainer {
    const child = new ServiceContainer(this.bindings, this);
    this.children.add(child);
    return child;
  }

  get<T>(token: Token<T>, asker: Asker | null = null): Promise<T> {
    return this.ask(token, asker) as Promise<T>;
  }

  async create<T>(Class: Newable<T>, asker: Asker | null = null): Promise<T> {
    for (const { value, optional } of injectionsOf(Class, asker)) if (!optional || this.has(value)) await this.ask(value, asker);
    return this.keep(await this.wiring.getAsync(Class, { autobind: true }));
  }

  has(token: Token<unknown>): boolean {
    const { scope, isList } = tokenFacts(token);
    return isList || servingOf(this.home(scope).services.get(token)) !== undefined;
  }

  /**
   * Waits for what is being built, then disposes what was built here and in the children, last in first out. Constants belong to who made them. Nothing is
   * built afterwards. Twice without harm.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    this.disposed = true;
    await Promise.allSettled([...this.services.values()].map(({ building }) => building));
    const errors: unknown[] = [];
    for (const service of [...this.built.splice(0), ...this.children].reverse()) {
      try {
        await disposeService(service);
      } catch (error) {
        errors.push(error);
      }
    }
    this.parent?.children.delete(this);
    if (errors.length > 0) throw errors[0];
  }

  private home(scope: Scope): ServiceContainer {
    return scope === 'engine' ? (this.parent ?? this) : this;
  }

  private add(binding: Binding): void {
    if (binding.scope !== this.scope) throw new TokenScopeError(binding, this.scope, binding.owner);
    this.requireOneToken(binding);
    const { bindings } = this.service(binding.token);
    requireNoRival(bindings, binding);
    bindings.push(binding);
  }

  private service(token: Token<unknown>): Service {
    const service = this.services.get(token) ?? { ...tokenFacts(token), token, bindings: [], building: null, waitsFor: new Set() };
    this.services.set(token, service);
    return service;
  }

  private async ask(token: Token<unknown>, asker: Asker | null): Promise<unknown> {
    const facts = tokenFacts(token);
    const home = this.home(facts.scope);
    if (facts.scope !== home.scope) throw new TokenScopeError(facts, 'engine', asker?.owner ?? null);
    if (this.disposed || home.disposed) throw new DisposedError(`The container of the ${home.disposed ? home.scope : this.scope}`);
    if (!this.has(token))
      throw new ServiceNotBoundError({ ...facts, token }, nearestNames(facts.name, this.names()), asker, this.instead(token, facts.name));
    const service = home.service(token);
    if (asker !== null && waits(service, asker.service)) throw new ServiceCycleError(asker, service.name);
    asker?.service.waitsFor.add(service);
    const building = (service.building ??= Promise.resolve().then(() => home.build(service))); // set before what is built asks for others
    try {
      return await building;
    } catch (error) {
      if (service.building === building) service.building = null; // the next request tries again
      throw error;
    } finally {
      asker?.service.waitsFor.delete(service);
    }
  }

  private async build(service: Service): Promise<unknown> {
    const { bindings, isList, token } = service;
    const elements: unknown[] = [];
    for (const binding of bindings) if (isList && binding.role === 'service') elements.push(await this.make(binding, service));
    let value = isList ? Object.freeze(elements) : await this.make(servingOf(service)!, service);
    for (const binding of bindings) if (binding.role === 'decorator') value = await this.make(binding, service, value);
    this.wiring.bind(token).toConstantValue(value);
    return value;
  }

  /** @throws ServiceInvalidError for what is not a service of the token; ContractVersionError. */
  private async make(binding: Binding, service: Service, inner?: unknown): Promise<unknown> {
    const value = await this.valueOf(binding, service, inner);
    const { isList, role, must, contract } = binding;
    const isWhole = isList && role === 'decorator';
    const misfits = isWhole && Array.isArray(value) ? value.map((one) => misfit(one, must)) : [misfit(value, isWhole ? ['map'] : must)];
    const given = misfits.find((one) => one !== null);
    if (given !== undefined) throw new ServiceInvalidError(binding, given!);
    if (contract !== null) {
      const { contract: stated = contract } = value as { contract?: unknown };
      if (stated !== contract) throw new ContractVersionError(binding, stated, contract);
    }
    noteOwner(value, binding.owner);
    return value;
  }

  private async valueOf(binding: Binding, service: Service, inner: unknown): Promise<unknown> {
    const { source } = binding;
    if (source.kind === 'constant') return source.value;
    const asker = { ...binding, service };
    try {
      if (source.kind === 'class') return await this.create(await source.load(), asker);
      const services: Services = {
        get: (token) => this.get(token, asker),
        create: (Class) => this.create(Class, asker),
        has: (token) => this.has(token),
      };
      const value = await source.build(services, inner);
      return value === inner ? value : this.keep(value);
    } catch (error) {
      throw GraftError.is(error) ? error : new ServiceFailedError(binding, error);
    }
  }

  private keep<T>(value: T): T {
    if (!this.built.includes(value)) this.built.push(value);
    return value;
  }

  private known(): Service[] {
    return [...this.services.values(), ...(this.parent?.known() ?? [])];
  }

  private names(): string[] {
    return this.known().map(({ name }) => name);
  }

  /** @throws TokenTwinError */
  private requireOneToken(binding: Binding): void {
    const twin = this.known().find(({ name, token, bindings }) => name === binding.name && token !== binding.token && bindings.length > 0);
    if (twin !== undefined) throw new TokenTwinError(binding, twin.bindings[0]!);
  }

  /** The binding that its author may have meant for a token without one: of another platform, or of a token that is named like it. */
  private instead(token: Token<unknown>, name: string): Binding | undefined {
    const near = this.known().filter((service) => meantNames(name, [service.name]).length > 0);
    const ofPlugins = near.flatMap(({ bindings }) => bindings.filter(({ isDefault }) => !isDefault));
    return ofPlugins[0] ?? this.elsewhere.find((one) => one.token === token);
  }
}

/** The plugin's binding, or the default where no plugin has one. */
function servingOf(service: Service | undefined): Binding | undefined {
  const bound = service?.bindings.filter(({ role }) => role === 'service') ?? [];
  return bound.find(({ isDefault }) => !isDefault) ?? bound[0];
}

function waits(service: Service, other: Service): boolean {
  return service === other || [...service.waitsFor].some((next) => waits(next, other));
}

async function disposeService(service: unknown): Promise<void> {
  if (typeof service !== 'object' || service === null) return;
  if (Symbol.asyncDispose in service) await (service as AsyncDisposable)[Symbol.asyncDispose]();
  else if (Symbol.dispose in service) (service as Disposable)[Symbol.dispose]();
}
