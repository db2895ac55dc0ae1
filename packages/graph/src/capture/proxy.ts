import { CaptureArrowFieldError, CaptureAssignmentError, CaptureBoundMethodError } from '../errors.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { ModuleList } from '../nn/containers.ts';
import { joinPath, Module } from '../nn/module.ts';
import { Buffer, Parameter } from '../nn/parameter.ts';
import { RuntimeSlot } from '../nn/runtime-slot.ts';
import { Dim } from '../shape.ts';
import { SymbolicTensor } from '../tensor.ts';
import { type Fact, factOf, type Guard, hasInternalSlots, keysFact, lengthFact } from './guard.ts';

type Key = string | number | symbol;

/** Where a proxied object stands: its path in the model's terms and the keys that lead to it from the root of this capture. */
interface Place {
  path: string;
  keys: readonly Key[];
}

export interface ProxyHost {
  readonly builder: GraphBuilder;
  /** Called for the `forward` of a module that is a region of its own; null means "run it inline". */
  regionForward(module: Module, path: string, keys: readonly Key[]): ((...args: unknown[]) => unknown) | null;
  slotDim(dim: RuntimeSlot['dims'][number], modulePath: string): Dim;
  /** The path in the whole model, for errors: a region's own paths begin at its module. */
  fullPath(path: string): string;
}

/**
 * Lets `forward` run unchanged over a module tree while it notes all that is read. `super` calls, getters, `instanceof`, loops and nulls work;
 * what would escape it (`#private`, arrow fields, bound methods, assignment) is an error.
 */
export class CaptureProxies {
  readonly guards = new Map<string, Guard>();
  private readonly host: ProxyHost;
  private readonly proxies = new Map<string, { target: object; proxy: object }>();
  /** Modules whose `forward` is running, outermost first. */
  private readonly running: string[] = [];

  constructor(host: ProxyHost) {
    this.host = host;
  }

  wrap<T extends object>(target: T, place: Place = { path: '', keys: [] }): T {
    const id = place.keys.map(String).join('\u0000');
    const known = this.proxies.get(id);
    if (known?.target === target) return known.proxy as T;
    this.note(place, factOf(target));
    const proxy = new Proxy(surfaceOf(target), this.traps(target, place)) as T;
    this.proxies.set(id, { target, proxy });
    return proxy;
  }

  private traps(target: object, place: Place): ProxyHandler<object> {
    const refuse = (key: string | symbol): never => {
      throw new CaptureAssignmentError(this.host.fullPath(joinPath(place.path, String(key))));
    };
    return {
      get: (_surface, key, receiver) => this.read(target, key, receiver, place),
      set: (_surface, key) => refuse(key),
      defineProperty: (_surface, key) => refuse(key),
      deleteProperty: (_surface, key) => refuse(key),
      preventExtensions: () => refuse(''),
      getPrototypeOf: () => Object.getPrototypeOf(target) as object | null,
      getOwnPropertyDescriptor: (_surface, key) => describe(target, key),
      ownKeys: () => {
        this.note(place, keysFact(target));
        return Reflect.ownKeys(target);
      },
      has: (_surface, key) => {
        this.note(this.step(target, place, key), factOf(Reflect.get(target, key)));
        return Reflect.has(target, key);
      },
    };
  }

  private read(object: object, key: string | symbol, receiver: unknown, place: Place): unknown {
    if (object instanceof Module) this.host.builder.currentPath = place.path;
    if (typeof key === 'symbol') return Reflect.get(object, key, receiver);
    if (accessor(object, key)) return Reflect.get(object, key, receiver);
    const value: unknown = Reflect.get(object, key);
    const at = this.step(object, place, key);
    if (Array.isArray(object))
      return key === 'length' ? this.length(object, place) : typeof value === 'function' ? value : this.give(value, at);
    if (typeof value === 'function') return this.method(object, key, value as (...args: unknown[]) => unknown, at, place);
    return this.give(value, at);
  }

  /** Items of a ModuleList stand under the list's own path. */
  private step(object: object, place: Place, key: Key): Place {
    const transparent = object instanceof ModuleList && key === 'items';
    return { path: transparent ? place.path : joinPath(place.path, String(key)), keys: [...place.keys, key] };
  }

  private length(list: readonly unknown[], place: Place): number {
    this.note(place, lengthFact(list));
    return list.length;
  }

  private method(object: object, key: string, value: (...args: unknown[]) => unknown, at: Place, place: Place): unknown {
    if (Object.hasOwn(object, key)) refuseInstanceFunction(value, this.host.fullPath(at.path));
    this.note(at, factOf(value));
    if (key !== 'forward' || !(object instanceof Module)) return value;
    return this.inside(place.path, this.host.regionForward(object, place.path, place.keys) ?? value);
  }

  /** Once a `forward` returns, nodes are placed in its caller again. When it throws, the path stays where that happened. */
  private inside(path: string, forward: (...args: unknown[]) => unknown): (...args: unknown[]) => unknown {
    return new Proxy(forward, {
      apply: (target, self, args: unknown[]) => {
        this.running.push(path);
        try {
          const result: unknown = Reflect.apply(target, self, args);
          this.host.builder.currentPath = this.running.at(-2) ?? '';
          return result;
        } finally {
          this.running.pop();
        }
      },
    });
  }

  private give(value: unknown, at: Place): unknown {
    if (value instanceof SymbolicTensor) return value;
    if (value instanceof Dim) return value;
    if (value instanceof Parameter || value instanceof Buffer) {
      this.note(at, factOf(value));
      return this.host.builder.weight(at.path, at.keys.map(String), value);
    }
    if (value instanceof RuntimeSlot) {
      this.note(at, factOf(value));
      const parent = at.path.split('.').slice(0, -1).join('.');
      return this.host.builder.slot(
        at.path,
        value.kind,
        value.dtype,
        value.dims.map((dim) => this.host.slotDim(dim, parent)),
      );
    }
    if (typeof value === 'object' && value !== null && !hasInternalSlots(value)) return this.wrap(value, at);
    this.note(at, factOf(value));
    return value;
  }

  private note(place: Place, fact: Fact): void {
    const id = `${fact.kind === 'length' || fact.kind === 'keys' ? fact.kind : 'value'} ${place.keys.map(String).join('\u0000')}`;
    if (this.guards.has(id)) return;
    this.guards.set(id, { kind: fact.kind, path: place.path, expected: fact.text, keys: place.keys, identity: fact.identity });
  }
}

function accessor(object: object, key: string): boolean {
  for (let owner: object | null = object; owner !== null; owner = Object.getPrototypeOf(owner) as object | null) {
    const descriptor = Object.getOwnPropertyDescriptor(owner, key);
    if (descriptor !== undefined) return descriptor.get !== undefined;
  }
  return false;
}

/**
 * What the Proxy is made of. Not the target: a Proxy must give the very value of a frozen property, and here that value is wrapped.
 */
function surfaceOf(target: object): object {
  return Array.isArray(target) ? [] : (Object.create(Object.getPrototypeOf(target) as object | null) as object);
}

function describe(target: object, key: string | symbol): PropertyDescriptor | undefined {
  const descriptor = Reflect.getOwnPropertyDescriptor(target, key);
  if (descriptor === undefined) return undefined;
  return Array.isArray(target) && key === 'length' ? { ...descriptor, writable: true } : { ...descriptor, configurable: true };
}

const arrow = /^(?:async\s*)?(?:[\w$]+|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))\s*=>/;

function refuseInstanceFunction(value: (...args: unknown[]) => unknown, path: string): void {
  const source = Function.prototype.toString.call(value);
  if (value.name.startsWith('bound ') && source.includes('[native code]')) throw new CaptureBoundMethodError(path);
  if (arrow.test(source)) throw new CaptureArrowFieldError(path);
}
