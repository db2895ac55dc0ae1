import { createHash } from 'node:crypto';
import type { InspectableModel } from './model.ts';
import { factsText } from './parameters.ts';

interface Seen {
  readonly path: string;
  readonly prototype: object | null;
  readonly properties: ReadonlyMap<PropertyKey, PropertyDescriptor>;
  /** The entries of a Map or a Set, or a hash of bytes. */
  readonly content: string | readonly unknown[] | null;
}

export interface SnapshotOptions {
  /** Objects that belong to someone else and are not entered, such as a model's context. */
  ignored?: Iterable<object>;
  /** Looks at bytes and resources too. They are compared and never put back. */
  deep?: boolean;
}

/**
 * Every object that can be reached from some roots, at one moment: its class, its own properties, its entries. Can be compared with a later one and
 * put back. Below the roots, functions are not entered; getters are not called; private fields and closures are out of reach.
 */
export class Snapshot {
  private readonly roots: ReadonlyMap<string, object>;
  private readonly options: SnapshotOptions;
  private readonly seen = new Map<object, Seen>();

  /** @param roots by the name that `differences` uses. */
  constructor(roots: ReadonlyMap<string, object>, options: SnapshotOptions = {}) {
    this.roots = roots;
    this.options = options;
    const ignored = new Set(options.ignored);
    for (const [name, root] of roots) this.walk(root, name, ignored);
  }

  /** A model with its modules, parameters and buffers, also those that it keeps out of the reach of own properties. */
  static ofModel(model: InspectableModel, options?: SnapshotOptions): Snapshot {
    const named = [...model.namedParameters(), ...model.namedBuffers()].map(
      ([name, facts]) => [`${name}, ${factsText(facts)}`, facts] as const,
    );
    return new Snapshot(new Map<string, object>([['', model], ...modulesOf(model), ...named]), options);
  }

  /** Prototypes and statics of every class of the objects seen here. Built-in classes are included. */
  ofClasses(): Snapshot {
    const roots = new Map<string, object>();
    for (const prototype of new Set([...this.seen.values()].map((seen) => seen.prototype))) addClass(prototype, roots);
    return new Snapshot(roots);
  }

  /** The same roots, as they are now. */
  again(): Snapshot {
    return new Snapshot(this.roots, this.options);
  }

  /** Every object, with the path under which it was found first. */
  *objects(): Iterable<[object, string]> {
    for (const [object, { path }] of this.seen) yield [object, path];
  }

  /** The changes up to `later`, a snapshot of the same roots. One sentence a change. */
  differences(later: Snapshot): string[] {
    const names = new Set([...this.roots.keys(), ...later.roots.keys()]);
    const moved = [...names]
      .filter((name) => this.roots.get(name) !== later.roots.get(name))
      .map((name) => `${name} is not the same object`);
    // What is no longer reached left a property that changed.
    const changed = [...this.seen].flatMap(([object, before]) => changesOf(before, later.seen.get(object) ?? before));
    return changed.length > 0 ? changed : moved;
  }

  /** Classes and property names by path: what two models of one class have in common after the same hooks. */
  outline(): string[] {
    return [...this.seen.values()].map(
      ({ path, prototype, properties }) =>
        `${path || 'the model'}: ${classOf(prototype)} {${[...properties.keys()].map(String).join(', ')}}`,
    );
  }

  /** Puts classes, properties and entries back, in their order. What cannot be put back, such as a property frozen since, stays. */
  restore(): void {
    const roots = new Set(this.roots.values());
    for (const [object, before] of this.seen) {
      if (Object.getPrototypeOf(object) !== before.prototype) Reflect.setPrototypeOf(object, before.prototype);
      if ((roots.has(object) || !isLeft(object)) && changesOf(before, look(object, before.path, false), true).length > 0)
        putBack(object, before);
    }
  }

  private walk(root: object, name: string, ignored: ReadonlySet<object>): void {
    const { deep = false } = this.options;
    const queue: [object, string][] = [[root, name]];
    for (let at = 0; at < queue.length; at++) {
      const [object, path] = queue[at]!;
      if (this.seen.has(object) || ignored.has(object)) continue;
      const seen = look(object, path, deep);
      this.seen.set(object, seen);
      const enter = (value: unknown, below: string): void => {
        if (typeof value === 'object' && value !== null && (deep ? !isBuffer(value) : !isLeft(value))) queue.push([value, below]);
      };
      for (const [key, { value }] of seen.properties) enter(value, join(path, key));
      if (Array.isArray(seen.content)) for (const value of seen.content) enter(value, join(path, '(entry)'));
    }
  }
}

/** The modules of a model by path, the model itself first; one that does not name its parts is a single module. */
export function modulesOf(model: InspectableModel): ReadonlyMap<string, object> {
  return new Map(model.namedModules?.() ?? [['', model]]);
}

function addClass(prototype: object | null, roots: Map<string, object>): void {
  for (let at = prototype; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    if ([...roots.values()].includes(at)) return;
    const name = unused(classOf(at), roots);
    roots.set(`${name}.prototype`, at);
    if (typeof at.constructor === 'function') roots.set(name, at.constructor);
  }
}

function unused(name: string, roots: ReadonlyMap<string, object>): string {
  return roots.has(`${name}.prototype`) ? unused(`${name}'`, roots) : name;
}

function isBuffer(value: object): boolean {
  return value instanceof ArrayBuffer || value instanceof SharedArrayBuffer;
}

/** Bytes, and resources (what one disposes), are left as they are. */
function isLeft(value: object): boolean {
  return (
    isBuffer(value) || ArrayBuffer.isView(value) || value instanceof Promise || Symbol.dispose in value || Symbol.asyncDispose in value
  );
}

function look(object: object, path: string, deep: boolean): Seen {
  const prototype: object | null = Object.getPrototypeOf(object);
  if (ArrayBuffer.isView(object)) {
    const bytes = new Uint8Array(object.buffer, object.byteOffset, object.byteLength);
    return { path, prototype, properties: new Map(), content: deep ? createHash('sha1').update(bytes).digest('hex') : null };
  }
  const properties = new Map(Reflect.ownKeys(object).map((key) => [key, Object.getOwnPropertyDescriptor(object, key)!]));
  // A prototype of Map is no Map, though it inherits from one.
  const content = isReal(Map, object) ? [...object].flat() : isReal(Set, object) ? [...object] : null;
  return { path, prototype, properties, content };
}

function isReal<T extends object>(Class: new () => T, object: object): object is T {
  return object instanceof Class && object.constructor?.prototype !== object;
}

/** All properties anew: one that was taken away and put back would come last, and parameters are listed in the order of their fields. */
function putBack(object: object, { properties, content }: Seen): void {
  for (const key of Reflect.ownKeys(object)) Reflect.deleteProperty(object, key);
  for (const [key, descriptor] of properties) Reflect.defineProperty(object, key, descriptor);
  if (!Array.isArray(content)) return;
  if (object instanceof Map) {
    object.clear();
    for (let at = 0; at < content.length; at += 2) object.set(content[at], content[at + 1]);
  } else if (object instanceof Set) {
    object.clear();
    for (const value of content) object.add(value);
  }
}

function changesOf(before: Seen, now: Seen, inOrder = false): string[] {
  if (before === now) return [];
  const name = before.path || 'the model';
  const changes: string[] = [];
  if (before.prototype !== now.prototype) changes.push(`${name} is ${classOf(now.prototype)}, and was ${classOf(before.prototype)}`);
  for (const key of new Set([...before.properties.keys(), ...now.properties.keys()])) {
    const change = propertyChange(before.properties.get(key), now.properties.get(key));
    if (change !== null) changes.push(`${join(before.path, key)} ${change}`);
  }
  if (!sameItems(before.content, now.content))
    changes.push(`${name} holds other ${typeof before.content === 'string' ? 'values' : 'entries'}`);
  if (inOrder && changes.length === 0 && !sameItems([...before.properties.keys()], [...now.properties.keys()]))
    changes.push(`${name} has its properties in another order`);
  return changes;
}

function propertyChange(before: PropertyDescriptor | undefined, now: PropertyDescriptor | undefined): string | null {
  if (before === undefined) return 'was added';
  if (now === undefined) return 'was removed';
  if (!Object.is(before.value, now.value) || before.get !== now.get || before.set !== now.set)
    return `is ${valueText(now.value)}, and was ${valueText(before.value)}`;
  const flags = ['enumerable', 'writable', 'configurable'] as const;
  const flag = flags.find((key) => before[key] !== now[key]);
  return flag === undefined ? null : `is ${now[flag] ? '' : 'not '}${flag}, and was ${before[flag] ? '' : 'not '}so`;
}

function sameItems(a: Seen['content'], b: Seen['content']): boolean {
  if (!Array.isArray(a) || !Array.isArray(b)) return a === b;
  return a.length === b.length && a.every((value, index) => Object.is(value, b[index]));
}

function classOf(prototype: object | null): string {
  return prototype?.constructor?.name || 'an object';
}

function valueText(value: unknown): string {
  if (typeof value === 'function') return `function ${value.name || '(unnamed)'}`;
  if (typeof value === 'object' && value !== null) return `another ${classOf(Object.getPrototypeOf(value) as object | null)}`;
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}

function join(path: string, key: PropertyKey): string {
  return path === '' ? String(key) : `${path}.${String(key)}`;
}
