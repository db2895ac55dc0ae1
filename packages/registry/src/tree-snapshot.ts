/**
 * A model's objects at one moment, so that a phase that failed can be taken back whatever it changed: every object, list, map and set that is reached
 * through own properties, with its prototype. Bytes, resources (what one disposes), functions and private state are left as they are.
 */
export class TreeSnapshot {
  private readonly taken: { restore(): void }[] = [];

  constructor(root: object) {
    const seen = new Set<object>([root]);
    const waiting: object[] = [root];
    const visit = (value: unknown): void => {
      if (typeof value !== 'object' || value === null || seen.has(value) || isLeft(value)) return;
      seen.add(value);
      waiting.push(value);
    };
    for (let object = waiting.pop(); object !== undefined; object = waiting.pop()) this.taken.push(take(object, visit));
  }

  /** Puts everything back. What cannot be put back, such as a property that was frozen since, stays. */
  restore(): void {
    for (const one of this.taken) one.restore();
  }
}

function isLeft(value: object): boolean {
  return (
    ArrayBuffer.isView(value) ||
    value instanceof ArrayBuffer ||
    value instanceof SharedArrayBuffer ||
    value instanceof Promise ||
    Symbol.dispose in value ||
    Symbol.asyncDispose in value
  );
}

type Visit = (value: unknown) => void;

function take(object: object, visit: Visit): { restore(): void } {
  if (Array.isArray(object)) return takeArray(object, visit);
  const properties = takeProperties(object, visit);
  const entries = object instanceof Map ? takeMap(object, visit) : object instanceof Set ? takeSet(object, visit) : null;
  return {
    restore() {
      properties.restore();
      entries?.restore();
    },
  };
}

function takeArray(array: unknown[], visit: Visit) {
  const items = [...array];
  items.forEach(visit);
  return {
    restore() {
      const isSame = array.length === items.length && items.every((item, index) => Object.is(item, array[index]));
      if (!isSame && !Object.isFrozen(array)) array.splice(0, array.length, ...items);
    },
  };
}

function takeMap(map: Map<unknown, unknown>, visit: Visit) {
  const entries = [...map];
  for (const [key, value] of entries) {
    visit(key);
    visit(value);
  }
  return {
    restore() {
      map.clear();
      for (const [key, value] of entries) map.set(key, value);
    },
  };
}

function takeSet(set: Set<unknown>, visit: Visit) {
  const values = [...set];
  values.forEach(visit);
  return {
    restore() {
      set.clear();
      for (const value of values) set.add(value);
    },
  };
}

function takeProperties(object: object, visit: Visit) {
  const prototype: object | null = Object.getPrototypeOf(object);
  const properties = Reflect.ownKeys(object).map((key) => [key, Object.getOwnPropertyDescriptor(object, key)!] as const);
  for (const [, { value }] of properties) visit(value);
  return {
    restore() {
      if (Object.getPrototypeOf(object) !== prototype) Reflect.setPrototypeOf(object, prototype);
      if (isAsBefore(object, properties)) return;
      // All of them anew: a name that was taken away and put back would come last, and parameters are listed in the order of their fields.
      for (const key of Reflect.ownKeys(object)) Reflect.deleteProperty(object, key);
      for (const [key, descriptor] of properties) Reflect.defineProperty(object, key, descriptor);
    },
  };
}

function isAsBefore(object: object, properties: readonly (readonly [string | symbol, PropertyDescriptor])[]): boolean {
  const keys = Reflect.ownKeys(object);
  return (
    keys.length === properties.length && properties.every(([key, before], index) => keys[index] === key && isSame(object, key, before))
  );
}

function isSame(object: object, key: string | symbol, before: PropertyDescriptor): boolean {
  const now = Object.getOwnPropertyDescriptor(object, key)!;
  const fields = ['value', 'get', 'set', 'writable', 'enumerable', 'configurable'] as const;
  return fields.every((field) => Object.is(now[field], before[field]));
}
