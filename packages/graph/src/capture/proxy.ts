import { CaptureArrowFieldError, CaptureAssignmentError, CaptureBoundMethodError } from '../errors.ts';
import type { GraphBuilder } from '../graph-builder.ts';
import { ModuleList } from '../nn/containers.ts';
import { joinPath, Module } from '../nn/module.ts';
import { Buffer, Parameter } from '../nn/parameter.ts';
import { RuntimeSlot } from '../nn/runtime-slot.ts';
import { Dim } from '../shape.ts';
import { SymbolicTensor } from '../tensor.ts';
import { type Fact, factOf, type Guard, keysFact, lengthFact } from './guard.ts';

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
}

/**
 * Lets `forward` run unchanged over a module tree while it notes all that is read. `super` calls, getters, `instanceof`, loops and nulls work;
 * what would escape it (`#private`, arrow fields, bound methods, assignment) is an error.
 */
export class CaptureProxies {
  readonly guards = new Map<string, Guard>();
  private readonly host: ProxyHost;
  private readonly proxies = new Map<string, { target: object; proxy: object }>();

  constructor(host: ProxyHost) {
    this.host = host;
  }

  wrap<T extends object>(target: T, place: Place = { path: '', keys: [] }): T {
    const id = place.keys.map(String).join('\u0000');
    const known = this.proxies.get(id);
    if (known?.target === target) return known.proxy as T;
    this.note(place, factOf(target));
    const refuse = (key: string | symbol): never => {
      throw new CaptureAssignmentError(joinPath(place.path, String(key)));
    };
    const proxy = new Proxy(target, {
      get: (object, key, receiver) => this.read(object, key, receiver, place),
      set: (_object, key) => refuse(key),
      defineProperty: (_object, key) => refuse(key),
      deleteProperty: (_object, key) => refuse(key),
      ownKeys: (object) => {
        this.note(place, keysFact(object));
        return Reflect.ownKeys(object);
      },
      has: (object, key) => {
        this.note(this.step(object, place, key), factOf(Reflect.get(object, key)));
        return Reflect.has(object, key);
      },
    });
    this.proxies.set(id, { target, proxy });
    return proxy;
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
    if (Object.hasOwn(object, key)) refuseInstanceFunction(value, at.path);
    this.note(at, factOf(value));
    if (key === 'forward' && object instanceof Module) return this.host.regionForward(object, place.path, place.keys) ?? value;
    return value;
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
    this.note(at, hasInternalSlots(value) ? { kind: 'constant', identity: value, text: factOf(value).text } : factOf(value));
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

/** A Proxy cannot stand in for these: their methods need the object itself. */
function hasInternalSlots(value: unknown): boolean {
  return (
    value instanceof Map ||
    value instanceof Set ||
    value instanceof Date ||
    value instanceof RegExp ||
    ArrayBuffer.isView(value) ||
    value instanceof Promise
  );
}

const arrow = /^(?:async\s*)?(?:[\w$]+|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))\s*=>/;

function refuseInstanceFunction(value: (...args: unknown[]) => unknown, path: string): void {
  const source = Function.prototype.toString.call(value);
  if (value.name.startsWith('bound ') && source.includes('[native code]')) throw new CaptureBoundMethodError(path);
  if (arrow.test(source)) throw new CaptureArrowFieldError(path);
}
