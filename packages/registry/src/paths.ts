import { nowText } from '@graft/common';
import { propertiesOf } from './prototypes.ts';

/** Where a dotted path of attributes leads; `absent` says in words what is there instead. */
export type FoundAttribute = 'there' | { readonly behindNull: string } | { readonly absent: string };

/** Whether a dotted name fits a pattern in which `*` stands for one segment: `layers.*.norm.weight`. */
export function matchesPath(pattern: string, name: string): boolean {
  const [wanted, actual] = [pattern.split('.'), name.split('.')];
  return wanted.length === actual.length && wanted.every((segment, i) => segment === '*' || segment === actual[i]);
}

/**
 * Follows `model.layers.*.self_attn` on an instance: fields, accessors and elements. `*` is any element; the path is there when it is there for
 * one of them. An attribute that holds null is there, and an accessor at the end is not read.
 */
export function findAttribute(model: object, path: string): FoundAttribute {
  return follow(model, path.split('.'), '');
}

function follow(holder: unknown, [segment, ...rest]: readonly string[], at: string): FoundAttribute {
  if (segment === undefined) return 'there';
  if (holder === null || holder === undefined) return { behindNull: at };
  const keys = segment === '*' ? Object.keys(holder).filter((key) => /^\d+$/.test(key)) : [segment];
  const found = keys.map((key): FoundAttribute => {
    if (typeof holder !== 'object' || !(key in holder)) return absent(holder, segment, at);
    return rest.length === 0 ? 'there' : follow(Reflect.get(holder, key), rest, at === '' ? key : `${at}.${key}`);
  });
  const good = found.find((one) => one === 'there') ?? found.find((one) => typeof one === 'object' && 'behindNull' in one);
  return good ?? found[0] ?? absent(holder, segment, at);
}

function absent(holder: unknown, segment: string, at: string): FoundAttribute {
  const className = (holder as object).constructor?.name ?? typeof holder;
  const names = [...propertiesOf(Object(holder))].flatMap(([name, { value }]) => (typeof value === 'function' ? [] : [name]));
  return { absent: `${at === '' ? className : `"${at}" (${className})`} has no "${segment}"; ${nowText(segment, names)}` };
}
