import { joinPath, Module } from '@graft/graph';

/** A field of a module, a list or a record, with the path that a capture gives it. */
interface Field {
  readonly path: string;
  readonly key: string;
  readonly value: unknown;
}

/** All own fields, including lent children, which `Module` traversal omits. A getter is returned, not called. */
export function* fieldsOf(host: object, path: string): IterableIterator<Field> {
  for (const name of Reflect.ownKeys(host)) {
    if (Array.isArray(host) && name === 'length') continue;
    const { get, value } = Reflect.getOwnPropertyDescriptor(host, name)!;
    const key = String(name);
    yield { path: joinPath(path, key), key, value: get ?? value };
  }
}

/** Each object of a type that `forward` can reach through modules and lists, once, with its first path. */
export function* reachable<T extends object>(
  host: object,
  type: abstract new (...args: never[]) => T,
  at = '',
  seen = new Set<object>(),
): IterableIterator<[path: string, value: T]> {
  seen.add(host);
  for (const { path, value } of fieldsOf(host, at)) {
    if (typeof value !== 'object' || value === null || seen.has(value)) continue;
    if (value instanceof type) {
      seen.add(value);
      yield [path, value];
    } else if (value instanceof Module || Array.isArray(value)) yield* reachable(value, type, path, seen);
  }
}
