import type { Newable, ServiceIdentifier } from 'inversify';
import { prepareInjectable } from './injectable.ts';
import type { Owner } from './registration.ts';
import { BinderClosedError, TokenConflictError, TokenScopeError } from './service-errors.ts';
import { type Scope, tokenFacts } from './tokens.ts';

/** What a builder may ask for: other services, never the container. */
export interface Services {
  /** @throws ServiceNotBoundError; ServiceAsyncError when the service is still being built asynchronously. */
  get<T>(token: ServiceIdentifier<T>): T;
  getAsync<T>(token: ServiceIdentifier<T>): Promise<T>;
  has(token: ServiceIdentifier): boolean;
}

/** One service per token and container. A build that fails is not kept: the next request tries again. */
export interface BindingSyntax<T> {
  toConstantValue(value: T): void;
  toDynamicValue(build: (services: Services) => T | Promise<T>): void;
  /** A class whose constructor parameters carry `@inject(token)`. */
  to(Class: Newable<T>): void;
}

/** All that a plugin sees of a container: it may bind, and cannot read, rebind or unbind. */
export interface Binder {
  bind<T>(token: ServiceIdentifier<T>): BindingSyntax<T>;
}
export type EngineBinder = Binder;
export type ModelBinder = Binder;

export type BindingSource =
  | { readonly kind: 'constant'; readonly value: unknown }
  | { readonly kind: 'dynamic'; readonly build: (services: Services) => unknown }
  | { readonly kind: 'class'; readonly Class: Newable };

/** A binding as a value. Containers are filled from these, so a plugin that fails half-way leaves nothing behind. */
export interface Binding {
  readonly token: ServiceIdentifier;
  readonly name: string;
  readonly scope: Scope;
  readonly owner: Owner;
  readonly source: BindingSource;
}

/** Checks a token's scope and gives the three ways of binding it, each of which ends in `accept`. */
export function bindingSyntax<T>(
  token: ServiceIdentifier<T>,
  scope: Scope,
  owner: Owner,
  accept: (binding: Binding) => void,
): BindingSyntax<T> {
  const facts = tokenFacts(token);
  if (facts.scope !== scope) throw new TokenScopeError(facts, scope, owner);
  const take = (source: BindingSource) => accept({ token, name: facts.name, scope, owner, source });
  return {
    toConstantValue: (value) => take({ kind: 'constant', value }),
    toDynamicValue: (build) => take({ kind: 'dynamic', build }),
    to: (Class) => {
      prepareInjectable(Class, facts.name, owner);
      take({ kind: 'class', Class });
    },
  };
}

/** Records what a plugin binds, instead of binding it. */
export class BindingRecorder implements Binder {
  readonly bindings: Binding[] = [];
  private readonly scope: Scope;
  private readonly owner: Owner;
  private open = true;

  constructor(scope: Scope, owner: Owner) {
    this.scope = scope;
    this.owner = owner;
  }

  bind<T>(token: ServiceIdentifier<T>): BindingSyntax<T> {
    return bindingSyntax(token, this.scope, this.owner, (binding) => {
      if (!this.open) throw new BinderClosedError(binding.name, this.owner);
      const rival = this.bindings.find((other) => other.token === binding.token);
      if (rival !== undefined) throw new TokenConflictError(binding.name, rival.owner, this.owner);
      this.bindings.push(binding);
    });
  }

  /** Nothing can be bound through a reference kept for later. */
  close(): void {
    this.open = false;
  }
}
