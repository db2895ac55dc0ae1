/** Where a dotted path of attributes leads. `at` is the path so far, empty for the model itself. */
export type FoundAttribute =
  | { readonly is: 'there' }
  | { readonly is: 'behind null'; readonly at: string }
  | {
      readonly is: 'absent';
      readonly at: string;
      readonly className: string;
      readonly segment: string;
      /** What is there instead. */
      readonly names: readonly string[];
    };

/** Whether a dotted name fits a pattern in which `*` stands for one segment: `layers.*.norm.weight`. */
export function matchesPath(pattern: string, name: string): boolean {
  const [wanted, actual] = [pattern.split('.'), name.split('.')];
  return wanted.length === actual.length && wanted.every((segment, i) => segment === '*' || segment === actual[i]);
}

/**
 * Follows `model.layers.*.self_attn` on an instance: fields, accessors and, for a number, elements of a list. `*` is any element; the path is there
 * when it is there for one of them. An attribute that holds null is there.
 */
export function findAttribute(model: object, path: string): FoundAttribute {
  return follow(model, path.split('.'), '');
}

function follow(holder: unknown, segments: readonly string[], at: string): FoundAttribute {
  const [segment, ...rest] = segments;
  if (segment === undefined) return { is: 'there' };
  if (holder === null || holder === undefined) return { is: 'behind null', at };
  if (segment === '*') return followAny(holder, rest, at);
  const child = childOf(holder, segment);
  if (child === null) return absent(holder, segment, at);
  // An accessor at the end is there whatever it would do.
  return rest.length === 0 ? { is: 'there' } : follow(child(), rest, join(at, segment));
}

/** Of the elements, one for which the path is there; else what the first one says. */
function followAny(holder: unknown, rest: readonly string[], at: string): FoundAttribute {
  const found = elementsOf(holder).map((element, index) => follow(element, rest, join(at, String(index))));
  return found.find(({ is }) => is === 'there') ?? found.find(({ is }) => is === 'behind null') ?? found[0] ?? absent(holder, '*', at);
}

function absent(holder: unknown, segment: string, at: string): FoundAttribute {
  return { is: 'absent', at, className: (holder as object).constructor?.name ?? typeof holder, segment, names: attributeNames(holder) };
}

function childOf(holder: unknown, segment: string): (() => unknown) | null {
  if (/^\d+$/.test(segment)) {
    const elements = elementsOf(holder);
    if (Number(segment) < elements.length) return () => elements[Number(segment)];
  }
  if (typeof holder !== 'object' || holder === null || !(segment in holder)) return null;
  return () => Reflect.get(holder, segment);
}

function elementsOf(holder: unknown): unknown[] {
  return typeof holder === 'object' && holder !== null && Symbol.iterator in holder ? [...(holder as Iterable<unknown>)] : [];
}

/** Fields and accessors, not methods. */
function attributeNames(holder: unknown): string[] {
  const names = new Set<string>();
  for (let at: object | null = Object(holder); at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      if (typeof value !== 'function') names.add(name);
    }
  }
  return [...names];
}

const join = (at: string, segment: string): string => (at === '' ? segment : `${at}.${segment}`);
