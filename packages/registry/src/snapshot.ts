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
  /** Objects that are not entered, such as a model's context. */
  ignored?: Iterable<object>;
  /** Bytes and resources are compared too; they are never restored. */
  deep?: boolean;
}

/**
 * Every object that can be reached from some roots, at one moment: class, own properties, entries. Can be compared with a later snapshot and
 * restored. Below the roots, functions are not entered; getters are not called; private fields and closures are out of reach.
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

  /** A model with its modules, parameters and buffers, also those in private fields. */
  static ofModel(model: InspectableModel, options?: SnapshotOptions): Snapshot {
    const roots = new Map<string, object>([['', model], ...modulesOf(model)]);
    for (const [name, facts] of [...model.namedParameters(), ...model.namedBuffers()]) roots.set(`${name}, ${factsText(facts)}`, facts);
    return new Snapshot(roots, options);
  }

  /** Prototypes and statics of every class of the objects seen here. Built-in classes are included. */
  ofClasses(): Snapshot {
    const roots = new Map<string, object>();
    const found = new Set<object>([Object.prototype]);
    for (const { prototype } of this.seen.values())
      for (let at = prototype; at !== null && !found.has(at); at = Object.getPrototypeOf(at)) {
        found.add(at);
        let name = classOf(at);
        while (roots.has(`${name}.prototype`)) name += "'";
        roots.set(`${name}.prototype`, at);
        if (typeof at.constructor === 'function') roots.set(name, at.constructor);
      }
    return new Snapshot(roots);
  }

  again(): Snapshot {
    return new Snapshot(this.roots, this.options);
  }

  /** Every object, with the path under which it was found first. */
  *objects(): Iterable<[object, string]> {
    for (const [object, { path }] of this.seen) yield [object, path];
  }

  /** The changes up to `later`, a snapshot of the same roots: one sentence for each. */
  differences(later: Snapshot): string[] {
    // An object that is no longer reached left a property that changed.
    const changed = [...this.seen].flatMap(([object, before]) => changesOf(before, later.seen.get(object) ?? before));
    if (changed.length > 0) return changed;
    const moved = [...this.roots.keys(), ...later.roots.keys()].filter((name) => this.roots.get(name) !== later.roots.get(name));
    return [...new Set(moved)].map((name) => `${name} is not the same object`);
  }

  /** Classes and property names by path: equal for two models of one class after the same hooks. */
  outline(): string[] {
    return [...this.seen.values()].map(
      ({ path, prototype, properties }) =>
        `${path || 'the model'}: ${classOf(prototype)} {${[...properties.keys()].map(String).join(', ')}}`,
    );
  }

  /** Restores classes, properties and entries, in their order. A property that was frozen since stays as it is. */
  restore(): void {
    const roots = new Set(this.roots.values());
    for (const [object, before] of this.seen) {
      if (Object.getPrototypeOf(object) !== before.prototype) Reflect.setPrototypeOf(object, before.prototype);
      const now = look(object, before.path, false);
      const isSame = changesOf(before, now).length === 0 && sameItems([...before.properties.keys()], [...now.properties.keys()]);
      if (!isSame && (roots.has(object) || !isLeft(object))) putBack(object, before);
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
  const isCollection = object instanceof Map || object instanceof Set;
  if (!isCollection || object.constructor.prototype === object) return { path, prototype, properties, content: null }; // a prototype has no entries
  return { path, prototype, properties, content: object instanceof Map ? [...object].flat() : [...object] };
}

/** Defines all properties again, to restore their order: parameters are listed in the order of their fields. */
function putBack(object: object, { properties, content }: Seen): void {
  for (const key of Reflect.ownKeys(object)) Reflect.deleteProperty(object, key);
  for (const [key, descriptor] of properties) Reflect.defineProperty(object, key, descriptor);
  if (!Array.isArray(content)) return;
  (object as Map<unknown, unknown> | Set<unknown>).clear();
  if (object instanceof Map) for (let at = 0; at < content.length; at += 2) object.set(content[at], content[at + 1]);
  else if (object instanceof Set) for (const value of content) object.add(value);
}

function changesOf(before: Seen, now: Seen): string[] {
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
