import { expectValid, functionSchema, kindOf, nonEmpty } from '@graft/common';
import type { Newable } from 'inversify';
import * as z from 'zod';
import { BinderClosedError, BindingInvalidError, TokenConflictError } from './errors.ts';
import { injectionsOf } from './injectable.ts';
import type { Owner } from './owner.ts';
import { type Token, type TokenFacts, tokenFacts } from './tokens.ts';

/** The services that a builder may ask for. It never sees the container. */
export interface Services {
  /** @throws ServiceNotBoundError, ServiceCycleError, ServiceFailedError and others: see docs/errors.md. */
  get<T>(token: Token<T>): Promise<T>;
  /** An instance of a class that no token names, with its parameters injected. The container disposes it. */
  create<T>(Class: Newable<T>): Promise<T>;
  has(token: Token<unknown>): boolean;
}

/** One service per token and container, built when first asked for. A build that fails is not kept: the next request tries again. */
export interface BindingSyntax<T> {
  /** A class whose constructor parameters carry `@inject(token)`, or a function that imports it: `() => import('./x.ts').then((m) => m.X)`. */
  to(source: Newable<T> | (() => Promise<Newable<T>>)): void;
  toConstantValue(value: T): void;
  toDynamicValue(build: (services: Services) => T | Promise<T>): void;
}

export interface BindingOptions {
  /** Default: the platforms that the plugin brings; every platform where it brings none. */
  platform?: string;
  /** Default: every mode. */
  modes?: readonly string[];
}

/** All that a plugin sees of a container: it may bind, and cannot read or unbind. */
export interface Bind {
  <T>(token: Token<T>, options?: BindingOptions): BindingSyntax<T>;
  /** Adds an element to a list. The elements of all plugins come in the order of `after`. */
  many<T>(token: Token<readonly T[]>, options?: BindingOptions): BindingSyntax<T>;
  /** Replaces a service, or a whole list, by what `decorator` makes of it. Decorators apply in the order of `after`. */
  decorate<T>(token: Token<T>, decorator: (inner: T, services: Services) => T | Promise<T>, options?: BindingOptions): void;
}

export type BindingSource =
  | { readonly kind: 'constant'; readonly value: unknown }
  | { readonly kind: 'class'; readonly load: () => Promise<Newable> }
  | { readonly kind: 'builder'; readonly build: (services: Services, inner: unknown) => unknown };

/** A binding as a value. Containers are filled from these, so a plugin that fails half-way leaves nothing behind. */
export interface Binding extends TokenFacts {
  readonly token: Token<unknown>;
  /** The services of a list are its elements. */
  readonly role: 'service' | 'decorator';
  readonly owner: Owner;
  /** A plugin's service takes the place of a default. */
  readonly isDefault: boolean;
  /** Null: all. */
  readonly platforms: readonly string[] | null;
  readonly modes: readonly string[] | null;
  readonly source: BindingSource;
}

/** Who binds, and where by default. */
export type BinderOwner = Owner & Partial<Pick<Binding, 'isDefault' | 'platforms'>>;

const optionsSchema = z.strictObject({ platform: nonEmpty.optional(), modes: z.array(nonEmpty).readonly().optional() });
const method = functionSchema<() => unknown>();

/** The function that binds for `owner`; each binding goes to `accept`. @param unfinished gets the calls that no `.to` has followed yet. */
export function binder(
  { isDefault = false, platforms = null, ...owner }: BinderOwner,
  accept: (binding: Binding) => void,
  unfinished: Set<string> = new Set(),
): Bind {
  const check = (schema: z.ZodType, value: unknown, name: string, call: string) =>
    expectValid(schema, value, name, (problems) => new BindingInvalidError(call, problems, owner));
  const take = (token: Token<unknown>, role: Binding['role'], { platform, modes }: BindingOptions, source: BindingSource) => {
    const on = platform === undefined ? platforms : [platform];
    accept({ ...tokenFacts(token), token, role, owner, isDefault, platforms: on, modes: modes ?? null, source });
  };
  const bindTo = <T>(token: Token<unknown>, options: BindingOptions, many: boolean): BindingSyntax<T> => {
    const { name, isList } = tokenFacts(token, owner);
    const call = `${many ? 'bind.many' : 'bind'}(${name})`;
    check(optionsSchema, options, 'options', call);
    if (isList !== many)
      throw new BindingInvalidError(
        call,
        isList ? `${name} is a list: write bind.many(${name})` : `${name} is one service, not a list: write bind(${name})`,
        owner,
      );
    unfinished.add(call);
    const accepted = (source: BindingSource) => {
      unfinished.delete(call);
      take(token, 'service', options, source);
    };
    return {
      toConstantValue: (value) => accepted({ kind: 'constant', value }),
      toDynamicValue(build) {
        check(method, build, 'the builder', `${call}.toDynamicValue`);
        accepted({ kind: 'builder', build });
      },
      to(source) {
        const toClass = `${call}.to`;
        check(method, source, 'its argument', toClass);
        const isLazy = Object.getOwnPropertyDescriptor(source, 'prototype')?.writable !== false; // a class's prototype cannot be set
        if (!isLazy) injectionsOf(source as Newable, { name, owner });
        const load = async (): Promise<Newable> => {
          const Class = isLazy ? await (source as () => Promise<Newable>)() : source;
          return check(method, Class, 'the imported class', toClass) as Newable;
        };
        accepted({ kind: 'class', load });
      },
    };
  };
  const decorate: Bind['decorate'] = (token, decorator, options = {}) => {
    const call = `bind.decorate(${tokenFacts(token, owner).name})`;
    check(method, decorator, 'the decorator', call);
    check(optionsSchema, options, 'options', call);
    take(token, 'decorator', options, { kind: 'builder', build: (services, inner) => decorator(inner as never, services) });
  };
  const bind = <T>(token: Token<unknown>, options: BindingOptions = {}) => bindTo<T>(token, options, false);
  return Object.assign(bind, {
    many: <T>(token: Token<readonly T[]>, options: BindingOptions = {}) => bindTo<T>(token, options, true),
    decorate,
  });
}

/** The bindings that an application has for whatever no plugin binds. */
export function defaultBindings(name: string, bind: (bind: Bind) => void): readonly Binding[] {
  const bindings: Binding[] = [];
  bind(binder({ plugin: name, file: null, isDefault: true }, (binding) => void bindings.push(binding)));
  return bindings;
}

/** Collects the bindings of a plugin's `bind`. @throws BindingInvalidError, TokenConflictError, BinderClosedError, and what `bind` throws. */
export async function collectBindings(owner: BinderOwner, bind: (bind: Bind) => void | Promise<void>): Promise<Binding[]> {
  const bindings: Binding[] = [];
  let isOpen = true;
  const accept = (binding: Binding) => {
    if (!isOpen) throw new BinderClosedError(binding);
    requireNoRival(bindings, binding);
    bindings.push(binding);
  };
  try {
    const unfinished = new Set<string>();
    const result: unknown = await bind(binder(owner, accept, unfinished));
    if (result !== undefined && unfinished.size === 0 && !Array.isArray(result))
      throw new BindingInvalidError(
        'bind()',
        `it returned ${kindOf(result)}, and what it returns binds nothing: call bind(Token).to(...)`,
        owner,
      );
    for (const call of unfinished)
      throw new BindingInvalidError(call, 'it binds nothing: .to, .toConstantValue or .toDynamicValue must follow', owner);
  } finally {
    isOpen = false;
  }
  return bindings;
}

/** @throws TokenConflictError when another one binds the token where `added` does. */
export function requireNoRival(bindings: readonly Binding[], added: Binding): void {
  if (added.isList || added.role === 'decorator') return;
  const rivals = bindings.filter(
    ({ token, role, isDefault }) => token === added.token && role === 'service' && isDefault === added.isDefault,
  );
  const rival = rivals.find(({ platforms, modes }) => overlap(platforms, added.platforms) && overlap(modes, added.modes));
  if (rival !== undefined) throw new TokenConflictError(rival, added);
}

export function servesOn({ platforms, modes }: Binding, platform: string, mode: string | undefined): boolean {
  return overlap(platforms, [platform]) && overlap(modes, mode === undefined ? [] : [mode]);
}

function overlap(one: readonly string[] | null, other: readonly string[] | null): boolean {
  return one === null || other === null || one.some((name) => other.includes(name));
}
