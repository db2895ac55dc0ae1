import { Buffer, Parameter } from '../nn/parameter.ts';
import { RuntimeInput } from '../nn/runtime-input.ts';

export type GuardKind = 'class' | 'constant' | 'null' | 'tensor' | 'runtime input' | 'function' | 'length' | 'keys' | 'input';

type Key = string | number | symbol;

/**
 * Something that `forward` read, so its graph depends on it. `path` is in the model's terms and relative to the region's module (a lent child looks
 * like a registered one). `expected` is for people; `identity` is compared.
 */
export interface Guard {
  readonly kind: GuardKind;
  readonly path: string;
  readonly expected: string;
  readonly keys: readonly Key[];
  readonly identity: unknown;
}

/** A guard that does not hold, and the value found instead. */
export interface GuardFailure {
  readonly kind: GuardKind;
  readonly path: string;
  readonly expected: string;
  readonly actual: string;
}

/** The part of a guard that is compared. The graph cannot tell values of equal identity apart. */
export type Fact = Pick<Guard, 'kind' | 'identity' | 'expected'>;

/** The fact to guard about a value that `forward` read. */
export function factOf(value: unknown): Fact {
  if (value === null || value === undefined) return { kind: 'null', identity: value, expected: String(value) };
  if (value instanceof Parameter || value instanceof Buffer) {
    const text = `${value.dtype}[${value.shape.join(', ')}]`;
    return { kind: 'tensor', identity: text, expected: text };
  }
  if (value instanceof RuntimeInput) return { kind: 'runtime input', identity: value.toString(), expected: value.toString() };
  if (typeof value === 'function') return { kind: 'function', identity: value, expected: value.name === '' ? 'a function' : value.name };
  if (hasInternalSlots(value)) return { kind: 'constant', identity: value, expected: `a ${value.constructor.name}` };
  if (typeof value === 'object') {
    const type: unknown = Object.getPrototypeOf(value)?.constructor;
    return { kind: 'class', identity: type, expected: typeof type === 'function' ? type.name : 'no class' };
  }
  return { kind: 'constant', identity: value, expected: typeof value === 'string' ? JSON.stringify(value) : String(value) };
}

/** A Proxy cannot replace these, since their methods need the object itself. They are compared by identity and must not change. */
export function hasInternalSlots(value: unknown): value is object {
  return (
    value instanceof Map ||
    value instanceof Set ||
    value instanceof Date ||
    value instanceof RegExp ||
    ArrayBuffer.isView(value) ||
    value instanceof Promise
  );
}

export function lengthFact(list: readonly unknown[]): Fact {
  return { kind: 'length', identity: list.length, expected: String(list.length) };
}

export function keysFact(object: object): Fact {
  const keys = Object.keys(object).join(', ');
  return { kind: 'keys', identity: keys, expected: keys };
}

/** Evaluates a guard on another module. @returns null when it holds. */
export function checkGuard(guard: Guard, module: object): GuardFailure | null {
  const found = follow(module, guard.keys);
  if (plainlyHolds(guard, found)) return null;
  const actual =
    guard.kind === 'length' && Array.isArray(found)
      ? lengthFact(found)
      : guard.kind === 'keys' && typeof found === 'object' && found !== null
        ? keysFact(found)
        : factOf(found);
  if (actual.kind === guard.kind && Object.is(actual.identity, guard.identity)) return null;
  return { kind: guard.kind, path: guard.path, expected: guard.expected, actual: describeDifference(guard, actual) };
}

/** The common case, without words for a failure: a lookup evaluates every guard of every layer. */
function plainlyHolds({ kind, identity }: Guard, found: unknown): boolean {
  if (kind === 'constant' || kind === 'null' || kind === 'function') return Object.is(found, identity);
  return kind === 'class' && typeof found === 'object' && found !== null && Object.getPrototypeOf(found)?.constructor === identity;
}

/** Two classes or functions may have one name (a duplicate install, a method of another class). */
function describeDifference(guard: Guard, actual: Fact): string {
  return actual.expected === guard.expected ? `another ${guard.kind} of that name` : actual.expected;
}

/** The property keys of a path. */
export function keysOf(path: string): string[] {
  return path === '' ? [] : path.split('.');
}

/** The weight that a module of the model holds under this path. */
export function weightAt(root: object, path: string): Parameter | Buffer {
  return follow(root, keysOf(path)) as Parameter | Buffer;
}

export function follow(root: object, keys: readonly Key[]): unknown {
  let value: unknown = root;
  for (const key of keys) {
    if (value === null || value === undefined) return undefined;
    value = Reflect.get(Object(value), key);
  }
  return value;
}
