import { createHash } from 'node:crypto';

interface Seen {
  readonly path: string;
  readonly prototype: object | null;
  readonly properties: ReadonlyMap<PropertyKey, PropertyDescriptor>;
  /** What own properties do not show: entries of a Map or Set, the bytes of a typed array. */
  readonly content: string | readonly unknown[] | null;
}

/**
 * What every object that can be reached from a model is at one moment: its class, its own properties, its bytes. Functions and what is in
 * `ignored` are seen by identity and not entered; getters are not called.
 */
export class ObjectState {
  private readonly seen = new Map<object, Seen>();
  private readonly ignored: ReadonlySet<object>;

  constructor(root: object, ignored: Iterable<object> = []) {
    this.ignored = new Set(ignored);
    this.walk(root);
  }

  /** Every object, with the path under which it was found first. */
  *objects(): Iterable<[object, string]> {
    for (const [object, { path }] of this.seen) yield [object, path];
  }

  /** What is different in `later`, which was taken of the same root: one sentence a change. */
  differences(later: ObjectState): string[] {
    return [...this.seen].flatMap(([object, before]) => {
      const now = later.seen.get(object);
      return now === undefined ? [] : changesOf(before, now); // what is no longer reached left a property that changed
    });
  }

  /** Classes and property names by path: what two models of one class must have in common after the same hooks. */
  outline(): string[] {
    return [...this.seen.values()].map(
      ({ path, prototype, properties }) =>
        `${path || 'the model'}: ${classOf(prototype)} {${[...properties.keys()].map(String).join(', ')}}`,
    );
  }

  private walk(root: object): void {
    const queue: [object, string][] = [[root, '']];
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [object, path] = next;
      if (this.seen.has(object) || this.ignored.has(object)) continue;
      const seen = look(object, path);
      this.seen.set(object, seen);
      for (const [key, { value }] of seen.properties) if (isEntered(value)) queue.push([value, join(path, key)]);
      if (Array.isArray(seen.content)) for (const value of seen.content) if (isEntered(value)) queue.push([value, join(path, '(entry)')]);
    }
  }
}

function look(object: object, path: string): Seen {
  const prototype: object | null = Object.getPrototypeOf(object);
  if (ArrayBuffer.isView(object)) {
    const bytes = new Uint8Array(object.buffer, object.byteOffset, object.byteLength);
    return { path, prototype, properties: new Map(), content: createHash('sha1').update(bytes).digest('hex') };
  }
  const properties = new Map(Reflect.ownKeys(object).map((key) => [key, Object.getOwnPropertyDescriptor(object, key)!]));
  const content = object instanceof Map ? [...object].flat() : object instanceof Set ? [...object] : null;
  return { path, prototype, properties, content };
}

function isEntered(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !(value instanceof ArrayBuffer) && !(value instanceof SharedArrayBuffer);
}

function changesOf(before: Seen, now: Seen): string[] {
  const name = before.path || 'the model';
  const changes: string[] = [];
  if (before.prototype !== now.prototype) changes.push(`${name} is ${classOf(now.prototype)}, and was ${classOf(before.prototype)}`);
  for (const key of new Set([...before.properties.keys(), ...now.properties.keys()])) {
    const change = propertyChange(before.properties.get(key), now.properties.get(key));
    if (change !== null) changes.push(`${join(before.path, key)} ${change}`);
  }
  if (!sameContent(before.content, now.content))
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

function sameContent(a: Seen['content'], b: Seen['content']): boolean {
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
