import 'reflect-metadata/lite';
import { injectFromBase, type Newable } from 'inversify';
import { constructorOf, parametersOf } from './class-source.ts';
import { type Bound, ServiceNotInjectableError } from './errors.ts';
import type { Token } from './tokens.ts';

/** Where inversify 8 keeps what `@inject` said. A test holds it to the installed version. */
const metadataKey = '@inversifyjs/core/classMetadataReflectKey';

interface Injected {
  readonly value: Token<unknown>;
  readonly optional: boolean;
}

interface ClassMetadata {
  readonly constructorArguments: readonly (Injected | undefined)[];
  readonly properties: ReadonlyMap<unknown, Injected>;
}

const checked = new WeakSet<object>();

/**
 * The services that the constructor and the fields of a class take. An undecorated subclass of an injectable class takes its base's parameters: inversify would build
 * it with no arguments, silently.
 * @throws ServiceNotInjectableError when a constructor takes a parameter without `@inject`.
 */
export function injectionsOf(Class: Newable, boundTo: Bound | null): Injected[] {
  if (!checked.has(Class)) check(Class, boundTo);
  checked.add(Class);
  const { constructorArguments = [], properties = new Map<unknown, Injected>() } = metadataOf(Class) ?? {};
  return [...constructorArguments, ...properties.values()].filter((injected) => injected !== undefined);
}

function check(Class: Newable, boundTo: Bound | null): void {
  const Base: unknown = Object.getPrototypeOf(Class);
  const hasBase = typeof Base === 'function' && Base !== Function.prototype;
  if (hasBase) injectionsOf(Base as Newable, boundTo);
  const own = Array.from(metadataOf(Class)?.constructorArguments ?? []);
  const injected = own.filter((argument) => argument !== undefined).length;
  if (constructorOf(Class) === 'own') {
    const replaces = hasBase && own.length === 0 && (metadataOf(Base as object)?.constructorArguments.length ?? 0) > 0; // the base takes services
    const parameters = Math.max(Class.length, own.length, replaces ? parametersOf(Class) : 0);
    if (parameters > injected) throw new ServiceNotInjectableError(Class.name, parameters, injected, boundTo);
  } else if (own.length === 0 && hasBase && metadataOf(Base) !== undefined) {
    injectFromBase({ extendConstructorArguments: true, extendProperties: true })(Class);
  }
}

function metadataOf(Class: object): ClassMetadata | undefined {
  return Reflect.getOwnMetadata(metadataKey, Class) as ClassMetadata | undefined;
}
