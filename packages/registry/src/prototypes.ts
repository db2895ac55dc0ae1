import type { AnyClass } from './model.ts';
/** An object and its prototypes, without those of the language itself. */
export function prototypesOf(of: unknown): object[] {
  const found: object[] = [];
  for (let at: unknown = of; at !== null && at !== Object.prototype && at !== Function.prototype; at = Object.getPrototypeOf(at))
    found.push(at as object);
  return found;
}

/** The properties of an object and of its prototypes by name; the nearest one hides the others. None is read. */
export function propertiesOf(of: unknown): Map<string, PropertyDescriptor> {
  return new Map(
    prototypesOf(of)
      .reverse()
      .flatMap((at) => Object.entries(Object.getOwnPropertyDescriptors(at))),
  );
}

/** Whether it was written as a class, and so cannot be called as a function. */
export function isClass(value: unknown): value is AnyClass {
  return typeof value === 'function' && /^class\b/.test(Function.prototype.toString.call(value));
}
