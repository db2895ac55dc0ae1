import { joinPath, Module } from '@graft/graph';

/** A field of a module, a list or a record, under the path that a capture would give it. */
export interface Field {
  readonly path: string;
  readonly key: string;
  readonly value: unknown;
}

/** Own fields, lent children included, which traversal leaves out. Accessors are not run. */
export function* fieldsOf(host: object, path: string): IterableIterator<Field> {
  for (const key of Reflect.ownKeys(host)) {
    const descriptor = Reflect.getOwnPropertyDescriptor(host, key)!;
    if (Array.isArray(host) && key === 'length') continue;
    const value: unknown = descriptor.get === undefined ? descriptor.value : descriptor.get;
    yield { path: joinPath(path, String(key)), key: String(key), value };
  }
}

/** Each object of a type that `forward` could reach through modules, lists and records, once, under its first path. */
export function* reachable<T extends object>(
  root: Module,
  type: abstract new (...args: never[]) => T,
  path = '',
  seen = new Set<object>(),
): IterableIterator<[path: string, value: T]> {
  yield* visit(root, path);

  function* visit(host: object, at: string): IterableIterator<[string, T]> {
    seen.add(host);
    for (const { path, value } of fieldsOf(host, at)) {
      if (typeof value !== 'object' || value === null || seen.has(value)) continue;
      if (value instanceof type) {
        seen.add(value);
        yield [path, value];
      } else if (value instanceof Module || Array.isArray(value)) yield* visit(value, path);
    }
  }
}
