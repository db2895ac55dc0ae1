import { join, repeat, spendOn, spendOnSearch } from './budget.ts';
import { formatFields } from './format.ts';
import { space } from './lexer.ts';
import { equals } from './operators.ts';
import {
  isFloat,
  iterate,
  JinjaError,
  type Named,
  Namespace,
  numberOf,
  repr,
  Tuple,
  tupleOf,
  typeName,
  Undefined,
  undefinedIn,
  type Value,
} from './values.ts';

export type Given = readonly [args: Value[], named: Named];

type Builtin<Subject> = (subject: Subject, ...args: (Value | undefined)[]) => Value;
export type Method = (subject: Value, given: Given) => Value;

/**
 * Methods or filters by name, which check their arguments. An argument that is not given is undefined.
 * @param table the key is the name and the names of the parameters after the subject, with blanks between; `*` stands for any number without names.
 */
export function builtins<Subject extends Value>(table: Readonly<Record<string, Builtin<Subject>>>): ReadonlyMap<string, Method> {
  const entries = Object.entries(table).map(([signature, run]): [string, Method] => {
    const [name = '', ...parameters] = signature.split(' ');
    const method: Method = (subject, [args, named]) => {
      spendOn(subject, ...args, ...named.values());
      if (parameters[0] === '*') return run(subject as Subject, ...args);
      if (args.length > parameters.length)
        throw new JinjaError(`${name}() takes at most ${parameters.length} argument(s), got ${args.length}`);
      const unknown = [...named.keys()].find((key) => !parameters.includes(key));
      if (unknown !== undefined) throw new JinjaError(`${name}() has no argument '${unknown}'`);
      return run(subject as Subject, ...parameters.map((parameter, index) => (index < args.length ? args[index] : named.get(parameter))));
    };
    return [name, method];
  });
  return new Map(entries);
}

/** Calls what an expression gave. */
export function call(callee: Value, [args, named]: Given): Value {
  spendOn(...args);
  const run = callee instanceof Namespace ? callee.call : callee;
  if (typeof run === 'function') return run(args, named);
  throw undefinedIn(callee) ?? new JinjaError(`'${typeName(callee)}' object is not callable`);
}

/** `object.name`: a method before a key. */
export function attributeOf(object: Value, name: string): Value {
  return methodOf(object, name) ?? (object instanceof Map && object.has(name) ? object.get(name)! : missing(object, name));
}

/** `object[key]`: a key before a method. */
export function itemOf(object: Value, key: Value): Value {
  spendOn(key, typeof object === 'string' ? object : null);
  if (object instanceof Map && object.has(key)) return object.get(key)!;
  const index = isFloat(key) ? null : numberOf(key);
  if ((Array.isArray(object) || typeof object === 'string') && index !== null) {
    const item = (typeof object === 'string' ? Array.from(object) : object).at(index);
    return item === undefined ? missing(object, key) : item;
  }
  return (typeof key === 'string' ? methodOf(object, key) : undefined) ?? missing(object, key);
}

function missing(object: Value, key: Value): Value {
  if (object instanceof Namespace && object.attributes.has(key)) return null;
  refuseUndefined(object);
  return new Undefined(`'${typeName(object)} object' has no ${typeof key === 'string' ? 'attribute' : 'element'} ${repr(key)}`);
}

function refuseUndefined(value: Value): void {
  const error = undefinedIn(value);
  if (error !== null) throw error;
}

/** Lists and dicts have no methods that change them: transformers forbids those to templates. */
function methodOf(object: Value, name: string): Value | undefined {
  if (object instanceof Namespace) return object.attributes.get(name);
  if (typeof object === 'string' && name === 'format') return (args, named) => formatFields(object, args, named, itemOf);
  const methods =
    typeof object === 'string' ? stringMethods : object instanceof Map ? dictMethods : Array.isArray(object) ? listMethods : null;
  const method = methods?.get(name);
  return method && ((args, named) => method(object, [args, named]));
}

/** `object[start:stop:step]`. */
export function sliceOf(object: Value, start: Value, stop: Value, step: Value): Value {
  spendOn(object);
  refuseUndefined(object);
  if (!Array.isArray(object) && typeof object !== 'string') throw new JinjaError(`'${typeName(object)}' object has no slices`);
  const items: Value[] = typeof object === 'string' ? Array.from(object) : object;
  const by = integer(step ?? undefined, 1);
  if (by === 0) throw new JinjaError('slice step cannot be zero');
  const [low, high] = by > 0 ? [0, items.length] : [-1, items.length - 1];
  const bound = (value: Value, otherwise: number): number => {
    if (value === null) return otherwise;
    const at = integer(value);
    return Math.min(Math.max(at < 0 ? at + items.length : at, low), high);
  };
  const [first, end] = [bound(start, by > 0 ? low : high), bound(stop, by > 0 ? high : low)];
  const found: Value[] = [];
  for (let at = first; by > 0 ? at < end : at > end; at += by) found.push(items[at]!);
  if (typeof object === 'string') return found.join('');
  return object instanceof Tuple ? tupleOf(found) : found;
}

/** @throws JinjaError if the value is not an `int`. */
export function integer(value: Value | undefined, otherwise?: number): number {
  if (value === undefined && otherwise !== undefined) return otherwise;
  const number = value === undefined || isFloat(value) ? null : numberOf(value);
  if (number === null) throw new JinjaError(`expected an integer, got ${value === undefined ? 'nothing' : repr(value)}`);
  return number;
}

/** @throws JinjaError if the value is not a `str`. */
export function text(value: Value | undefined): string {
  if (typeof value === 'string') return value;
  throw new JinjaError(`expected a string, got ${value === undefined ? 'nothing' : typeName(value)}`);
}

const stringMethods = builtins<string>({
  upper: (value) => value.toUpperCase(),
  lower: (value) => value.toLowerCase(),
  title: (value) => value.replace(/\p{Cased}+/gu, capitalized),
  capitalize: capitalized,
  'strip chars': (value, characters) => strip(value, characters),
  'lstrip chars': (value, characters) => strip(value, characters, 'left'),
  'rstrip chars': (value, characters) => strip(value, characters, 'right'),
  'split sep maxsplit': (value, separator, limit) => split(value, separator ?? null, integer(limit, -1)),
  'rsplit sep maxsplit': (value, separator, limit) => {
    const reversed = split(reverse(value), typeof separator === 'string' ? reverse(separator) : null, integer(limit, -1));
    return reversed.map(reverse).reverse();
  },
  splitlines: (value) => (value === '' ? [] : linesOf(value)),
  'startswith prefix start end': (value, prefix, start, end) => affixes(prefix).some((one) => within(value, start, end).startsWith(one)),
  'endswith suffix start end': (value, suffix, start, end) => affixes(suffix).some((one) => within(value, start, end).endsWith(one)),
  'replace old new count': (value, from, to, count) => replace(value, text(from), text(to), integer(count, -1)),
  'find sub start end': (value, part, start, end) => find(value, indexIn(within(value, start, end), text(part), 'indexOf'), start),
  'rfind sub start end': (value, part, start, end) => find(value, indexIn(within(value, start, end), text(part), 'lastIndexOf'), start),
  'index sub start end': (value, part, start, end) => there(find(value, indexIn(within(value, start, end), text(part), 'indexOf'), start)),
  'count sub': (value, part) => partsOf(value, text(part)).length - 1,
  'join items': (value, items) => join(Array.from(iterate(items!), text), value),
  'partition sep': (value, by) => partition(value, text(by), indexIn(value, text(by), 'indexOf')) ?? tupleOf([value, '', '']),
  'rpartition sep': (value, by) => partition(value, text(by), indexIn(value, text(by), 'lastIndexOf')) ?? tupleOf(['', '', value]),
  'removeprefix prefix': (value, prefix) => (value.startsWith(text(prefix)) ? value.slice(text(prefix).length) : value),
  'removesuffix suffix': (value, suffix) => (value.endsWith(text(suffix)) ? value.slice(0, value.length - text(suffix).length) : value),
  'zfill width': (value, width) => value.replace(/^[-+]?/, (sign) => sign + repeat('0', integer(width) - Array.from(value).length)),
  isdigit: (value) => /^\p{Nd}+$/u.test(value),
  isnumeric: (value) => /^\p{N}+$/u.test(value),
  isalpha: (value) => /^\p{L}+$/u.test(value),
  isalnum: (value) => /^[\p{L}\p{N}]+$/u.test(value),
  isspace: (value) => value !== '' && strip(value, undefined) === '',
  islower: (value) => value === value.toLowerCase() && value !== value.toUpperCase(),
  isupper: (value) => value === value.toUpperCase() && value !== value.toLowerCase(),
});

const dictMethods = builtins<Map<Value, Value>>({
  'get key default': (dict, key, otherwise) => (dict.has(key!) ? dict.get(key!)! : (otherwise ?? null)),
  items: itemsOf,
  keys: (dict) => [...dict.keys()],
  values: (dict) => [...dict.values()],
});

const listMethods = builtins<Value[]>({
  'index value': (list, value) => there(list.findIndex((item) => equals(item, value!))),
  'count value': (list, value) => list.filter((item) => equals(item, value!)).length,
});

export function itemsOf(dict: Map<Value, Value>): Value[] {
  return Array.from(dict, (entry) => tupleOf(entry));
}

const spaces = new RegExp(`${space}+`);

export function strip(value: string, characters: Value | undefined, sides: 'both' | 'left' | 'right' = 'both'): string {
  const stripped = typeof characters === 'string' ? new Set(characters) : null;
  const strips = (one: string): boolean => stripped?.has(one) ?? spaces.test(one);
  const first = (): string => String.fromCodePoint(value.codePointAt(start)!);
  const last = (): string => Array.from(value.slice(Math.max(start, end - 2), end)).at(-1)!;
  let [start, end] = [0, value.length];
  if (sides !== 'right') while (start < end && strips(first())) start += first().length;
  if (sides !== 'left') while (end > start && strips(last())) end -= last().length;
  return value.slice(start, end);
}

/** @param most splits, from the left; negative for any number. */
function split(value: string, separator: Value, most: number): string[] {
  if (separator === '') throw new JinjaError('empty separator');
  if (separator !== null) {
    const parts = partsOf(value, text(separator));
    return most < 0 || parts.length <= most ? parts : [...parts.slice(0, most), parts.slice(most).join(text(separator))];
  }
  const parts: string[] = [];
  let rest = strip(value, undefined, 'left');
  for (let found = spaces.exec(rest); found !== null && parts.length !== most; found = spaces.exec(rest)) {
    parts.push(rest.slice(0, found.index));
    rest = rest.slice(found.index + found[0].length);
  }
  return rest === '' ? parts : [...parts, rest];
}

export const reverse = (value: string): string => Array.from(value).reverse().join('');

/** The first `count` occurrences; all of them if it is negative. */
export function replace(value: string, from: string, to: string, count: number): string {
  const parts = from === '' ? ['', ...Array.from(value), ''] : partsOf(value, from);
  const replaced = count < 0 ? parts : parts.slice(0, count + 1);
  return [join(replaced, to), ...parts.slice(replaced.length)].join(from);
}

function partsOf(value: string, separator: string): string[] {
  spendOnSearch(value, separator);
  return value.split(separator);
}

function indexIn(value: string, part: string, from: 'indexOf' | 'lastIndexOf'): number {
  spendOnSearch(value, part);
  return value[from](part);
}

export function capitalized(value: string): string {
  const [first = '', ...rest] = Array.from(value);
  return first.toUpperCase() + rest.join('').toLowerCase();
}

const lineBreak = '(?:\\r\\n|[\\n-\\r\\x1c-\\x1e\\x85\\u2028\\u2029])';
/** A break at the end starts no line. */
export const linesOf = (value: string): string[] => value.replace(new RegExp(`${lineBreak}$`), '').split(new RegExp(lineBreak));

const within = (value: string, start: Value | undefined, end: Value | undefined): string =>
  sliceOf(value, start ?? null, end ?? null, null) as string;
const affixes = (affix: Value | undefined): string[] => (affix instanceof Tuple ? affix.map(text) : [text(affix)]);

/** @param at index in the part from `start` on, in UTF-16 units. @returns index in the whole, in code points. */
function find(value: string, at: number, start: Value | undefined): number {
  if (at < 0) return -1;
  const part = within(value, start, undefined);
  return Array.from(value).length - Array.from(part).length + Array.from(part.slice(0, at)).length;
}

function there(index: number): number {
  if (index < 0) throw new JinjaError('the value is not there');
  return index;
}

const partition = (value: string, by: string, at: number): Value | null =>
  at < 0 ? null : tupleOf([value.slice(0, at), by, value.slice(at + by.length)]);

/** The arguments that `**value` gives. */
export function entriesOf(value: Value): (readonly [string, Value])[] {
  if (!(value instanceof Map)) throw new JinjaError(`'${typeName(value)}' object is not a mapping`);
  return Array.from(value, ([key, item]) => [text(key), item]);
}
