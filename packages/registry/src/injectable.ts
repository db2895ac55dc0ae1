import 'reflect-metadata/lite';
import { injectFromBase, type Newable } from 'inversify';
import { constructorOf } from './class-source.ts';
import type { Owner } from './registration.ts';
import { ServiceNotInjectableError } from './service-errors.ts';

/** Where inversify 8 keeps what `@inject` said. A test holds it to the installed version. */
const metadataKey = '@inversifyjs/core/classMetadataReflectKey';

interface ClassMetadata {
  constructorArguments: readonly unknown[];
  properties: ReadonlyMap<unknown, unknown>;
}

const prepared = new WeakSet<object>();

/**
 * Makes an undecorated subclass of an injectable class take its base's parameters: inversify would build it with no arguments, silently.
 * @throws ServiceNotInjectableError when a constructor takes parameters without `@inject`.
 */
export function prepareInjectable(Class: Newable, token: string, owner: Owner): void {
  const chain: Newable[] = [];
  for (
    let current: unknown = Class;
    typeof current === 'function' && current !== Function.prototype;
    current = Object.getPrototypeOf(current)
  ) {
    chain.unshift(current as Newable);
  }
  for (const current of chain) prepareOne(current, token, owner);
}

function prepareOne(Class: Newable, token: string, owner: Owner): void {
  if (prepared.has(Class)) return;
  const own = metadataOf(Class);
  const Base: unknown = Object.getPrototypeOf(Class);
  const base = typeof Base === 'function' ? metadataOf(Base) : undefined;
  const ownArguments = own?.constructorArguments.length ?? 0;
  if (constructorOf(Class) === 'own') {
    if (Class.length > ownArguments)
      throw new ServiceNotInjectableError({ Class: Class.name, parameters: Class.length, injected: ownArguments, token, owner });
  } else if (base !== undefined && ownArguments === 0) {
    injectFromBase({ extendConstructorArguments: true, extendProperties: true })(Class);
  }
  prepared.add(Class);
}

function metadataOf(Class: object): ClassMetadata | undefined {
  return Reflect.getOwnMetadata(metadataKey, Class) as ClassMetadata | undefined;
}
