import { CaptureArrowFieldError, CaptureAssignmentError, CaptureBoundMethodError } from '../errors.ts';
import type { GraphRecorder } from '../graph-recorder.ts';
import { ModuleList } from '../nn/containers.ts';
import { joinPath, Module } from '../nn/module.ts';
import { Buffer, Parameter } from '../nn/parameter.ts';
import { RuntimeSlot } from '../nn/runtime-slot.ts';
import { Dim } from '../shape.ts';
import { SymbolicTensor } from '../tensor.ts';
import { type Fact, factOf, type Guard, type GuardKind, hasInternalSlots, keysFact, lengthFact } from './guard.ts';

type Key = string | number | symbol;

/**
 * Where something stands that is read: its path in the model's terms and the keys that lead to it from the root of a capture. All captures of a cache
 * share them, of every module: a place says nothing of what is there.
 */
export class Place {
  readonly path: string;
  readonly keys: readonly Key[];
  /** What was noted here last; most modules have the same at one place. */
  private last: Guard | null = null;
  private readonly below = new Map<Key, Place>();
  private readonly transparent = new Map<Key, Place>();
  private readonly aspects = new Map<GuardKind, object>();

  constructor(path = '', keys: readonly Key[] = []) {
    this.path = path;
    this.keys = keys;
  }

  /** @param isTransparent what stands there has this place's own path. */
  child(key: Key, isTransparent: boolean): Place {
    const places = isTransparent ? this.transparent : this.below;
    const known = places.get(key);
    if (known !== undefined) return known;
    const place = new Place(isTransparent ? this.path : joinPath(this.path, String(key)), [...this.keys, key]);
    places.set(key, place);
    return place;
  }

  /** Under which a fact of this kind is noted once: the value itself, or beside it the length or the keys of what it holds. */
  aspect(kind: GuardKind): object {
    if (kind !== 'length' && kind !== 'keys') return this;
    const known = this.aspects.get(kind) ?? {};
    this.aspects.set(kind, known);
    return known;
  }

  guard({ kind, identity, text }: Fact): Guard {
    if (this.last?.kind === kind && Object.is(this.last.identity, identity) && this.last.expected === text) return this.last;
    this.last = { kind, path: this.path, expected: text, keys: this.keys, identity };
    return this.last;
  }
}

export interface ProxyHost {
  readonly recorder: GraphRecorder;
  /** Called for the `forward` of a module that is a region of its own; null means "run it inline". */
  regionForward(module: Module, path: string): ((...args: unknown[]) => unknown) | null;
  slotDim(dim: RuntimeSlot['dims'][number], modulePath: string): Dim;
  /** The path in the whole model, for errors: a region's own paths begin at its module. */
  fullPath(path: string): string;
}

/**
 * Lets `forward` run unchanged over a module tree while it notes all that is read. `super` calls, getters, `instanceof`, loops and nulls work;
 * what would escape it (`#private`, arrow fields, bound methods, assignment) is an error.
 */
export class CaptureProxies {
  readonly guards = new Map<object, Guard>();
  private readonly host: ProxyHost;
  private readonly proxies = new Map<Place, { target: object; proxy: object }>();
  /** Modules whose `forward` is running, outermost first. */
  private readonly running: string[] = [];

  constructor(host: ProxyHost) {
    this.host = host;
  }

  wrap<T extends object>(target: T, place: Place): T {
    const known = this.proxies.get(place);
    if (known?.target === target) return known.proxy as T;
    this.note(place, factOf(target));
    const proxy = new Proxy(surfaceOf(target), new Traps(this, target, place)) as T;
    this.proxies.set(place, { target, proxy });
    return proxy;
  }

  refuse(place: Place, key: string | symbol): never {
    throw new CaptureAssignmentError(this.host.fullPath(joinPath(place.path, String(key))));
  }

  read(object: object, key: string | symbol, receiver: unknown, place: Place): unknown {
    if (object instanceof Module) this.host.recorder.currentPath = place.path;
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
  step(object: object, place: Place, key: Key): Place {
    return place.child(key, key === 'items' && object instanceof ModuleList);
  }

  private length(list: readonly unknown[], place: Place): number {
    this.note(place, lengthFact(list));
    return list.length;
  }

  private method(object: object, key: string, value: (...args: unknown[]) => unknown, at: Place, place: Place): unknown {
    if (Object.hasOwn(object, key)) refuseInstanceFunction(value, this.host.fullPath(at.path));
    this.note(at, factOf(value));
    if (key !== 'forward' || !(object instanceof Module)) return value;
    return this.inside(place.path, this.host.regionForward(object, place.path) ?? value);
  }

  /** Once a `forward` returns, nodes are placed in its caller again. When it throws, the path stays where that happened. */
  private inside(path: string, forward: (...args: unknown[]) => unknown): (...args: unknown[]) => unknown {
    const { host, running } = this;
    return function (this: unknown, ...args: unknown[]): unknown {
      running.push(path);
      try {
        const result: unknown = Reflect.apply(forward, this, args);
        host.recorder.currentPath = running.at(-2) ?? '';
        return result;
      } finally {
        running.pop();
      }
    };
  }

  private give(value: unknown, at: Place): unknown {
    if (value instanceof SymbolicTensor) return value;
    if (value instanceof Dim) return value;
    if (value instanceof Parameter || value instanceof Buffer) {
      this.note(at, factOf(value));
      return this.host.recorder.weight(at.path, at.keys.map(String), value);
    }
    if (value instanceof RuntimeSlot) {
      this.note(at, factOf(value));
      const parent = at.path.split('.').slice(0, -1).join('.');
      return this.host.recorder.slot(
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

  note(place: Place, fact: Fact): void {
    const aspect = place.aspect(fact.kind);
    if (!this.guards.has(aspect)) this.guards.set(aspect, place.guard(fact));
  }
}

/** What a proxied object does; a class, since a model has thousands of them. */
class Traps implements ProxyHandler<object> {
  private readonly proxies: CaptureProxies;
  private readonly target: object;
  private readonly place: Place;

  constructor(proxies: CaptureProxies, target: object, place: Place) {
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
    this.proxies.note(this.proxies.step(this.target, this.place, key), factOf(Reflect.get(this.target, key)));
    return Reflect.has(this.target, key);
  }
}

function accessor(object: object, key: string): boolean {
  for (let owner: object | null = object; owner !== null; owner = Object.getPrototypeOf(owner) as object | null) {
    if (Object.hasOwn(owner, key)) return Object.getOwnPropertyDescriptor(owner, key)!.get !== undefined;
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
