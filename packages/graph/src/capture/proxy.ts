import { CaptureArrowFieldError, CaptureAssignmentError, CaptureBoundMethodError, ModelOutputError } from '../errors.ts';
import type { GraphRecorder } from '../graph-recorder.ts';
import { joinPath, Module } from '../nn/module.ts';
import { Buffer, Parameter } from '../nn/parameter.ts';
import { RuntimeInput } from '../nn/runtime-input.ts';
import { Dim } from '../shape.ts';
import { describeResult, SymbolicTensor } from '../tensor.ts';
import { type Fact, factOf, type Guard, type GuardKind, hasInternalSlots, keysFact, lengthFact } from './guard.ts';

type Key = string | number | symbol;

/** The path of a read, and its keys from the root of a capture. All captures of a cache share these objects. */
export class ReadPath {
  readonly path: string;
  readonly keys: readonly Key[];
  /** The last guard noted here. Most modules have the same one at one place. */
  private last: Guard | null = null;
  private readonly below = new Map<Key, ReadPath>();
  private readonly aspects = new Map<GuardKind, object>();

  constructor(path = '', keys: readonly Key[] = []) {
    this.path = path;
    this.keys = keys;
  }

  child(key: Key): ReadPath {
    const known = this.below.get(key);
    if (known !== undefined) return known;
    const child = new ReadPath(joinPath(this.path, String(key)), [...this.keys, key]);
    this.below.set(key, child);
    return child;
  }

  /** The key under which a fact of this kind is noted once. A value, its length and its keys are noted apart. */
  aspect(kind: GuardKind): object {
    if (kind !== 'length' && kind !== 'keys') return this;
    const known = this.aspects.get(kind) ?? {};
    this.aspects.set(kind, known);
    return known;
  }

  guard({ kind, identity, expected }: Fact): Guard {
    if (this.last?.kind === kind && Object.is(this.last.identity, identity) && this.last.expected === expected) return this.last;
    this.last = { kind, path: this.path, expected, keys: this.keys, identity };
    return this.last;
  }
}

export interface ProxyHost {
  readonly recorder: GraphRecorder;
  /** Called for the `forward` of each module. Returns the call of its region; null runs it inline. */
  regionForward(module: Module, path: string): ((...args: unknown[]) => unknown) | null;
  runtimeDim(dim: RuntimeInput['dims'][number], modulePath: string): Dim;
  /** The path in the whole model, for errors. A region's own paths begin at its module. */
  fullPath(path: string): string;
}

/**
 * Lets `forward` run unchanged over a module tree and notes every read. `super` calls, getters, `instanceof`, loops and nulls work. Code that would
 * escape it (`#private`, arrow fields, bound methods, assignment) is an error.
 */
export class CaptureProxies {
  readonly guards = new Map<object, Guard>();
  private readonly host: ProxyHost;
  private readonly proxies = new Map<ReadPath, { target: object; proxy: object }>();
  /** Modules whose methods are running, outermost first. */
  private readonly running: string[] = [];
  /** The innermost method that threw. */
  failed: { readonly path: string; readonly caller: string } | null = null;
  /** The method that returned last, if it returned undefined. */
  gaveNothing: string | null = null;

  constructor(host: ProxyHost) {
    this.host = host;
  }

  wrap<T extends object>(target: T, place: ReadPath): T {
    const known = this.proxies.get(place);
    if (known?.target === target) return known.proxy as T;
    this.note(place, factOf(target));
    const proxy = new Proxy(surfaceOf(target), new Traps(this, target, place)) as T;
    this.proxies.set(place, { target, proxy });
    return proxy;
  }

  refuse(place: ReadPath, key: string | symbol): never {
    throw new CaptureAssignmentError(this.host.fullPath(joinPath(place.path, String(key))));
  }

  read(object: object, key: string | symbol, receiver: unknown, place: ReadPath): unknown {
    if (object instanceof Module) this.host.recorder.currentPath = place.path;
    if (typeof key === 'symbol') return Reflect.get(object, key, receiver);
    if (accessor(object, key)) return Reflect.get(object, key, receiver);
    const value: unknown = Reflect.get(object, key);
    const at = place.child(key);
    if (Array.isArray(object))
      return key === 'length' ? this.length(object, place) : typeof value === 'function' ? value : this.give(value, at);
    if (typeof value === 'function') return this.method(object, key, value as (...args: unknown[]) => unknown, at, place);
    return this.give(value, at);
  }

  private length(list: readonly unknown[], place: ReadPath): number {
    this.note(place, lengthFact(list));
    return list.length;
  }

  private method(object: object, key: string, value: (...args: unknown[]) => unknown, at: ReadPath, place: ReadPath): unknown {
    if (Object.hasOwn(object, key))
      refuseInstanceFunction(value, `${object.constructor.name}.${key} at ${this.host.fullPath(place.path) || 'the model itself'}`);
    this.note(at, factOf(value));
    // A function with a prototype is a class or a plain function that the module holds.
    if (!(object instanceof Module) || (key !== 'forward' && Object.hasOwn(value, 'prototype'))) return value;
    const region = key === 'forward' ? this.host.regionForward(object, place.path) : null;
    return this.inside(object, place.path, key, region ?? value);
  }

  /** Wraps a method. Once it returns, nodes belong to its caller again. */
  private inside(module: Module, path: string, method: string, body: (...args: unknown[]) => unknown): (...args: unknown[]) => unknown {
    const proxies = this;
    const { host, running } = this;
    const caller = `${module.constructor.name}.${method}`;
    return function (this: unknown, ...args: unknown[]): unknown {
      running.push(path);
      try {
        const result: unknown = Reflect.apply(body, this, args);
        if (result instanceof Promise || (method === 'forward' && isNoOutput(result)))
          throw new ModelOutputError(`${host.fullPath(path) || module.constructor.name}.${method}`, describeResult(result));
        host.recorder.currentPath = running.at(-2) ?? '';
        noteReturned(host.recorder, result, `${caller} at ${host.fullPath(path) || 'the model itself'}`);
        proxies.failed = null;
        proxies.gaveNothing = result === undefined ? caller : null;
        return result;
      } catch (error) {
        proxies.failed ??= { path, caller };
        throw error;
      } finally {
        running.pop();
      }
    };
  }

  private give(value: unknown, at: ReadPath): unknown {
    if (value instanceof SymbolicTensor || value instanceof Dim) return value;
    const isWeight = value instanceof Parameter || value instanceof Buffer;
    const isRuntimeInput = value instanceof RuntimeInput;
    if (typeof value === 'object' && value !== null && !isWeight && !isRuntimeInput && !hasInternalSlots(value))
      return this.wrap(value, at);
    this.note(at, factOf(value));
    if (isWeight) return this.host.recorder.weight(at.path, value);
    if (!isRuntimeInput) return value;
    const parent = at.path.split('.').slice(0, -1).join('.');
    const dims = value.dims.map((dim) => this.host.runtimeDim(dim, parent));
    return this.host.recorder.runtimeInput(at.path, value.kind, value.dtype, dims);
  }

  note(place: ReadPath, fact: Fact): void {
    const aspect = place.aspect(fact.kind);
    if (!this.guards.has(aspect)) this.guards.set(aspect, place.guard(fact));
  }
}

/** The traps of a proxied object. A class, since a model has thousands of them. */
class Traps implements ProxyHandler<object> {
  private readonly proxies: CaptureProxies;
  private readonly target: object;
  private readonly place: ReadPath;

  constructor(proxies: CaptureProxies, target: object, place: ReadPath) {
    this.proxies = proxies;
    this.target = target;
    this.place = place;
  }

  get(_surface: object, key: string | symbol, receiver: unknown): unknown {
    return this.proxies.read(this.target, key, receiver, this.place);
  }

  set(_surface: object, key: string | symbol): never {
    return this.proxies.refuse(this.place, key);
  }

  defineProperty(_surface: object, key: string | symbol): never {
    return this.proxies.refuse(this.place, key);
  }

  deleteProperty(_surface: object, key: string | symbol): never {
    return this.proxies.refuse(this.place, key);
  }

  preventExtensions(): never {
    return this.proxies.refuse(this.place, '');
  }

  getPrototypeOf(): object | null {
    return Object.getPrototypeOf(this.target) as object | null;
  }

  getOwnPropertyDescriptor(_surface: object, key: string | symbol): PropertyDescriptor | undefined {
    return describe(this.target, key);
  }

  ownKeys(): (string | symbol)[] {
    this.proxies.note(this.place, keysFact(this.target));
    return Reflect.ownKeys(this.target);
  }

  has(_surface: object, key: string | symbol): boolean {
    this.proxies.note(this.place.child(key), factOf(Reflect.get(this.target, key)));
    return Reflect.has(this.target, key);
  }
}

function noteReturned({ returnedBy }: GraphRecorder, result: unknown, by: string): void {
  for (const one of Array.isArray(result) ? [result, ...result] : [result])
    if (Array.isArray(one) || one instanceof SymbolicTensor) returnedBy.set(one, by);
}

/** Whether a value holds no tensor. Null is a model's "none"; it counts as an output. */
export function isNoOutput(value: unknown): boolean {
  return value === undefined || value instanceof Promise || (typeof value !== 'object' && typeof value !== 'function');
}

function accessor(object: object, key: string): boolean {
  for (let owner: object | null = object; owner !== null; owner = Object.getPrototypeOf(owner) as object | null) {
    if (Object.hasOwn(owner, key)) return Object.getOwnPropertyDescriptor(owner, key)!.get !== undefined;
  }
  return false;
}

/**
 * The object under the Proxy. It is not the target: a Proxy must return the exact value of a frozen property, and here that value is wrapped.
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

function refuseInstanceFunction(value: (...args: unknown[]) => unknown, where: string): void {
  const source = Function.prototype.toString.call(value);
  if (value.name.startsWith('bound ') && source.includes('[native code]')) throw new CaptureBoundMethodError(where);
  if (arrow.test(source)) throw new CaptureArrowFieldError(where);
}
