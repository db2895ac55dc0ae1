import { space } from './lexer.ts';
import {
  type Callable,
  compare,
  contains,
  dumps,
  equals,
  Float,
  float,
  format,
  formatPercent,
  Generator,
  isFloat,
  iterate,
  JinjaError,
  type Named,
  Namespace,
  numberOf,
  repr,
  str,
  Tuple,
  truth,
  tupleOf,
  typeName,
  Undefined,
  undefinedIn,
  type Value,
} from './values.ts';

export type Given = readonly [args: Value[], named: Named];

/** A function of Python: the names of its parameters after the first, and what it does. A parameter that is not given is undefined. */
type Builtin<Subject extends Value = Value> = readonly [
  parameters: string,
  run: (subject: Subject, ...args: (Value | undefined)[]) => Value,
];

function apply<Subject extends Value>(name: string, [parameters, run]: Builtin<Subject>, subject: Subject, [args, named]: Given): Value {
  const names = parameters.split(' ').filter((parameter) => parameter !== '');
  if (names.at(-1) === '*') return run(subject, ...args);
  if (args.length > names.length) throw new JinjaError(`${name}() takes at most ${names.length} argument(s), got ${args.length}`);
  const unknown = Object.keys(named).find((key) => !names.includes(key));
  if (unknown !== undefined) throw new JinjaError(`${name}() has no argument '${unknown}'`);
  return run(subject, ...names.map((parameter, index) => (index < args.length ? args[index] : named[parameter])));
}

/** Calls what an expression gave. */
export function call(callee: Value, [args, named]: Given): Value {
  const run = callee instanceof Namespace ? callee.call : callee;
  if (typeof run === 'function') return run(args, named);
  throw undefinedIn(callee) ?? new JinjaError(`'${typeName(callee)}' object is not callable`);
}

/** `object.name`: a method before a key. */
export function attributeOf(object: Value, name: string): Value {
  return methodOf(object, name) ?? (object instanceof Map ? object.get(name) : undefined) ?? missing(object, name);
}

/** `object[key]`: a key before a method. */
export function itemOf(object: Value, key: Value): Value {
  const index = numberOf(key);
  if (object instanceof Map && object.has(key)) return object.get(key)!;
  if ((Array.isArray(object) || typeof object === 'string') && index !== null && !isFloat(key)) {
    const item = (typeof object === 'string' ? Array.from(object) : object).at(index);
    return item === undefined ? missing(object, key) : item;
  }
  return (typeof key === 'string' ? methodOf(object, key) : undefined) ?? missing(object, key);
}

function missing(object: Value, key: Value): Value {
  if ((object instanceof Map && object.has(key)) || (object instanceof Namespace && object.attributes.has(key))) return null;
  throw_(undefinedIn(object));
  return new Undefined(`'${typeName(object)} object' has no ${typeof key === 'string' ? 'attribute' : 'element'} ${repr(key)}`);
}

function throw_(error: Error | null): void {
  if (error !== null) throw error;
}

function methodOf(object: Value, name: string): Value | undefined {
  if (object instanceof Namespace) return object.attributes.get(name);
  const methods: Readonly<Record<string, Builtin<never>>> =
    typeof object === 'string' ? stringMethods : object instanceof Map ? dictMethods : Array.isArray(object) ? listMethods : {};
  if (typeof object === 'string' && name === 'format') return (args, named) => formatFields(object, args, named);
  if (!Object.hasOwn(methods, name)) return undefined;
  return (args, named) => apply(name, methods[name] as Builtin, object, [args, named]);
}

/** `object[start:stop:step]`. */
export function sliceOf(object: Value, start: Value, stop: Value, step: Value): Value {
  throw_(undefinedIn(object));
  if (!Array.isArray(object) && typeof object !== 'string') return missing(object, 'slice');
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
function integer(value: Value | undefined, otherwise?: number): number {
  if (value === undefined && otherwise !== undefined) return otherwise;
  const number = value === undefined || isFloat(value) ? null : numberOf(value);
  if (number === null) throw new JinjaError(`expected an integer, got ${value === undefined ? 'nothing' : repr(value)}`);
  return number;
}

/** @throws JinjaError if the value is not a `str`. */
function text(value: Value | undefined, otherwise?: string): string {
  if (value === undefined && otherwise !== undefined) return otherwise;
  if (typeof value === 'string') return value;
  throw new JinjaError(`expected a string, got ${value === undefined ? 'nothing' : typeName(value)}`);
}

function strip(value: string, characters: Value | undefined, sides: 'both' | 'left' | 'right' = 'both'): string {
  const strips = characters === undefined || characters === null ? isSpace : (one: string) => text(characters).includes(one);
  const all = Array.from(value);
  let [start, end] = [0, all.length];
  if (sides !== 'right') while (start < end && strips(all[start]!)) start++;
  if (sides !== 'left') while (end > start && strips(all[end - 1]!)) end--;
  return all.slice(start, end).join('');
}

const spacePattern = new RegExp(`^${space}$`);
const isSpace = (character: string): boolean => spacePattern.test(character);

function split(value: string, separator: Value | undefined, limit: Value | undefined, last = false): string[] {
  const most = integer(limit, -1);
  const by = separator === undefined || separator === null ? null : text(separator);
  if (by === '') throw new JinjaError('empty separator');
  const trimmed = by === null ? strip(value, undefined, last ? 'right' : 'left') : value;
  const parts =
    by === null ? trimmed.split(new RegExp(`(${space}+)`)) : value.split(by).flatMap((part, index) => (index === 0 ? [part] : [by, part]));
  if (by === null && !last && most < 0 && parts.at(-1) === '') parts.splice(-2);
  if (by === null && last && most < 0 && parts[0] === '') parts.splice(0, 2);
  if (trimmed === '' && by === null) return [];
  const pieces = (parts.length + 1) / 2;
  if (most >= 0 && pieces > most + 1) {
    if (last) parts.splice(0, parts.length - 2 * most, parts.slice(0, parts.length - 2 * most).join(''));
    else parts.splice(2 * most, parts.length, parts.slice(2 * most).join(''));
  }
  const found = parts.filter((_, index) => index % 2 === 0);
  return by === null ? found.filter((part) => part !== '') : found;
}

function replace(value: string, from: string, to: string, count: number): string {
  if (count < 0) return value.replaceAll(from, () => to);
  const parts = from === '' ? ['', ...Array.from(value), ''] : value.split(from);
  return parts.reduce((all, part, index) => all + (index <= count ? to : from) + part);
}

/** Upper case at the start of each run of letters. */
const titled = (value: string): string => value.replace(/\p{L}[\p{L}\p{M}]*/gu, capitalized);
const capitalized = (value: string): string => {
  const [first = '', ...rest] = Array.from(value);
  return first.toUpperCase() + rest.join('').toLowerCase();
};
const lineBreak = '(?:\\r\\n|[\\n-\\r\\x1c-\\x1e\\x85\\u2028\\u2029])';
/** As `splitlines`: a break at the end starts no line. */
const lines = (value: string): string[] => value.replace(new RegExp(`${lineBreak}$`), '').split(new RegExp(lineBreak));

const starts =
  (method: 'startsWith' | 'endsWith'): Builtin<string>[1] =>
  (value, affix, start, end) => {
    const part = sliceOf(value, start ?? null, end ?? null, null) as string;
    return (affix instanceof Tuple ? [...affix] : [affix]).some((one) => part[method](text(one)));
  };

const found = (last: boolean, throws: boolean): Builtin<string> => [
  'sub start end',
  (value, part, start, end) => {
    const skipped = integer(start ?? 0);
    const within = sliceOf(value, start ?? null, end ?? null, null) as string;
    const at = last ? within.lastIndexOf(text(part)) : within.indexOf(text(part));
    if (at < 0 && throws) throw new JinjaError('substring not found');
    return at < 0 ? -1 : Array.from(within.slice(0, at)).length + (skipped < 0 ? Math.max(0, Array.from(value).length + skipped) : skipped);
  },
];

const padded = (place: (value: string, missing: string) => string): Builtin<string> => [
  'width fillchar',
  (value, width, fill) => place(value, text(fill, ' ').repeat(Math.max(0, integer(width) - Array.from(value).length))),
];

const partition = (last: boolean): Builtin<string> => [
  'sep',
  (value, separator) => {
    const by = text(separator);
    const at = last ? value.lastIndexOf(by) : value.indexOf(by);
    if (at < 0) return last ? tupleOf(['', '', value]) : tupleOf([value, '', '']);
    return tupleOf([value.slice(0, at), by, value.slice(at + by.length)]);
  },
];

const matches = (pattern: RegExp): Builtin<string> => ['', (value) => pattern.test(value)];

const stringMethods: Readonly<Record<string, Builtin<string>>> = {
  upper: ['', (value) => value.toUpperCase()],
  lower: ['', (value) => value.toLowerCase()],
  casefold: ['', (value) => value.toLowerCase().replaceAll('ß', 'ss')],
  title: ['', titled],
  capitalize: ['', capitalized],
  swapcase: [
    '',
    (value) => value.replace(/\p{L}/gu, (letter) => (letter === letter.toUpperCase() ? letter.toLowerCase() : letter.toUpperCase())),
  ],
  strip: ['chars', (value, characters) => strip(value, characters)],
  lstrip: ['chars', (value, characters) => strip(value, characters, 'left')],
  rstrip: ['chars', (value, characters) => strip(value, characters, 'right')],
  split: ['sep maxsplit', (value, separator, limit) => split(value, separator, limit)],
  rsplit: ['sep maxsplit', (value, separator, limit) => split(value, separator, limit, true)],
  splitlines: ['', (value) => (value === '' ? [] : lines(value))],
  startswith: ['prefix start end', starts('startsWith')],
  endswith: ['suffix start end', starts('endsWith')],
  replace: ['old new count', (value, from, to, count) => replace(value, text(from), text(to), integer(count, -1))],
  find: found(false, false),
  rfind: found(true, false),
  index: found(false, true),
  rindex: found(true, true),
  count: ['sub', (value, part) => value.split(text(part)).length - 1],
  join: [
    'items',
    (value, items) =>
      iterate(items!)
        .map((item) => text(item))
        .join(value),
  ],
  partition: partition(false),
  rpartition: partition(true),
  removeprefix: ['prefix', (value, prefix) => (value.startsWith(text(prefix)) ? value.slice(text(prefix).length) : value)],
  removesuffix: [
    'suffix',
    (value, suffix) => (suffix !== '' && value.endsWith(text(suffix)) ? value.slice(0, -text(suffix).length) : value),
  ],
  ljust: padded((value, missing) => value + missing),
  rjust: padded((value, missing) => missing + value),
  center: padded((value, missing) => missing.slice(0, missing.length >> 1) + value + missing.slice(missing.length >> 1)),
  zfill: [
    'width',
    (value, width) =>
      value.replace(/^([-+]?)([\s\S]*)$/, (_, sign: string, rest: string) => sign + rest.padStart(integer(width) - sign.length, '0')),
  ],
  isdigit: matches(/^\p{Nd}+$/u),
  isdecimal: matches(/^\p{Nd}+$/u),
  isnumeric: matches(/^\p{N}+$/u),
  isalpha: matches(/^\p{L}+$/u),
  isalnum: matches(/^[\p{L}\p{N}]+$/u),
  isspace: matches(new RegExp(`^${space}+$`)),
  islower: ['', (value) => value === value.toLowerCase() && value !== value.toUpperCase()],
  isupper: ['', (value) => value === value.toUpperCase() && value !== value.toLowerCase()],
  istitle: ['', (value) => /\p{L}/u.test(value) && titled(value) === value],
  isascii: ['', (value) => [...value].every((character) => character <= '\x7f')],
  isidentifier: matches(/^[\p{L}_][\p{L}\p{N}\p{M}_]*$/u),
};

/** `text.format(...)`. */
function formatFields(value: string, args: readonly Value[], named: Named): string {
  let next = 0;
  return value.replace(/\{\{|\}\}|\{([^{}:!]*)(?:!([rs]))?(?::([^{}]*))?\}/g, (whole, field: string | undefined, as, spec) => {
    if (field === undefined) return whole[0]!;
    const [first = '', ...path] = field.replace(/\[([^\]]+)\]/g, '.$1').split('.');
    const from = first === '' ? args[next++] : /^\d+$/.test(first) ? args[Number(first)] : named[first];
    if (from === undefined) throw new JinjaError(`format() has no value for '{${field}}'`);
    const item = path.reduce<Value>((object, key) => itemOf(object, /^\d+$/.test(key) ? Number(key) : key), from);
    return format(as === 'r' ? repr(item) : item, spec ?? '');
  });
}

const pairs = (dict: Map<Value, Value>): Value[] => [...dict].map(([key, item]) => tupleOf([key, item]));

const dictMethods: Readonly<Record<string, Builtin<Map<Value, Value>>>> = {
  get: ['key default', (dict, key, otherwise) => (dict.has(key!) ? dict.get(key!)! : (otherwise ?? null))],
  items: ['', pairs],
  keys: ['', (dict) => [...dict.keys()]],
  values: ['', (dict) => [...dict.values()]],
  copy: ['', (dict) => new Map(dict)],
};

const listMethods: Readonly<Record<string, Builtin<Value[]>>> = {
  index: ['value', (list, value) => at(list.findIndex((item) => equals(item, value!)))],
  count: ['value', (list, value) => list.filter((item) => equals(item, value!)).length],
  copy: ['', (list) => [...list]],
};

function at(index: number): number {
  if (index < 0) throw new JinjaError('the value is not in the list');
  return index;
}

/** Reads `a.b.0` of an item; the item itself without a path. */
function getter(path: Value | undefined): (item: Value) => Value {
  if (path === undefined || path === null) return (item) => item;
  const keys = typeof path === 'string' ? path.split('.').map((key) => (/^\d+$/.test(key) ? Number(key) : key)) : [path];
  return (item) => keys.reduce<Value>(itemOf, item);
}

const folded = (value: Value): Value => (typeof value === 'string' ? value.toLowerCase() : value);
const sortKey =
  (path: Value | undefined, caseSensitive: Value | undefined) =>
  (item: Value): Value => {
    const value = getter(path)(item);
    return truth(caseSensitive ?? false) ? value : folded(value);
  };

function sorted(items: readonly Value[], key: (item: Value) => Value, reverse: Value | undefined): Value[] {
  const sign = truth(reverse ?? false) ? -1 : 1;
  return items
    .map((item) => ({ item, by: key(item) }))
    .sort((a, b) => sign * compare(a.by, b.by))
    .map(({ item }) => item);
}

/** For filters that take a false value, `None` among them, as empty. */
const itemsOf = (value: Value): Value[] => (truth(value) ? iterate(value) : []);

/** Keeps items by a test of themselves, or of the attribute that the first argument names. */
const selecting =
  (keeps: boolean, byAttribute: boolean) =>
  (items: Value, ...args: (Value | undefined)[]): Value => {
    const read = byAttribute ? getter(args[0]) : (item: Value) => item;
    const [name, ...given] = (byAttribute ? args.slice(1) : args) as Value[];
    const holds = (value: Value): boolean => (name === undefined ? truth(value) : test(text(name), value, [given, {}]));
    return new Generator(itemsOf(items).filter((item) => holds(read(item)) === keeps));
  };

const extreme =
  (sign: 1 | -1): Builtin[1] =>
  (items, caseSensitive, path) => {
    const key = sortKey(path, caseSensitive);
    const all = iterate(items);
    if (all.length === 0) return new Undefined('No aggregated item, sequence was empty.');
    return all.reduce((best, item) => (sign * compare(key(item), key(best)) > 0 ? item : best));
  };

function lengthOf(value: Value): number {
  if (typeof value === 'string') return Array.from(value).length;
  if (value instanceof Map) return value.size;
  if (Array.isArray(value)) return value.length;
  if (value instanceof Undefined) return 0;
  throw new JinjaError(`object of type '${typeName(value)}' has no len()`);
}

function toInteger(value: Value, otherwise: Value | undefined, base: Value | undefined): Value {
  const number = typeof value === 'string' ? parsed(value, base === undefined ? 10 : integer(base)) : numberOf(value);
  return number === null || !Number.isFinite(number) ? (otherwise ?? 0) : Math.trunc(number);
}

function parsed(value: string, base = 10): number | null {
  const digits = strip(value, undefined).replace(/(?<=\d)_(?=\d)/g, '');
  if (base !== 10) return Number.isNaN(Number.parseInt(digits, base)) ? null : Number.parseInt(digits.replace(/^0[box]/i, ''), base);
  if (/^[-+]?(?:inf|infinity|nan)$/i.test(digits)) return /nan/i.test(digits) ? Number.NaN : digits.startsWith('-') ? -Infinity : Infinity;
  return /^[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?$/i.test(digits) ? Number(digits) : null;
}

function round(value: Value, precision: Value | undefined, method: Value | undefined): Value {
  const number = numberOf(value) ?? throwTyped('round', value);
  const scale = 10 ** integer(precision, 0);
  const scaled = number * scale;
  const even = Math.abs(scaled % 1) === 0.5 ? 2 * Math.round(scaled / 2) : Math.round(scaled);
  const by: Readonly<Record<string, number>> = { common: even, ceil: Math.ceil(scaled), floor: Math.floor(scaled) };
  const rounded = (by[text(method, 'common')] ?? throwTyped('round', method!)) / scale;
  return isFloat(value) || (method !== undefined && method !== 'common') ? float(rounded) : rounded;
}

function throwTyped(name: string, value: Value): never {
  throw undefinedIn(value) ?? new JinjaError(`${name} does not take ${repr(value)}`);
}

function indent(value: Value, width: Value | undefined, first: Value | undefined, blank: Value | undefined): string {
  const indention = typeof width === 'string' ? width : ' '.repeat(integer(width, 4));
  const [start = '', ...rest] = lines(`${text(value)}\n`);
  const indented = rest.map((line) => (line === '' && !truth(blank ?? false) ? line : indention + line));
  return (truth(first ?? false) ? indention : '') + [start, ...indented].join('\n');
}

function truncate(value: string, length: number, killWords: boolean, end: string, leeway: number): string {
  const characters = Array.from(value);
  if (characters.length <= length + leeway) return value;
  const kept = characters.slice(0, length - end.length).join('');
  return (killWords || !kept.includes(' ') ? kept : kept.slice(0, kept.lastIndexOf(' '))) + end;
}

/** transformers' `tojson`: `json.dumps` without escapes for HTML. */
function toJson(value: Value, ensureAscii?: Value, indention?: Value, separators?: Value, sortKeys?: Value): string {
  const isIndented = indention !== undefined && indention !== null;
  const by =
    separators === undefined || separators === null ? [isIndented ? ',' : ', ', ': '] : iterate(separators).map((one) => text(one));
  return dumps(value, {
    ensureAscii: truth(ensureAscii ?? false),
    indent: !isIndented ? null : typeof indention === 'string' ? indention : ' '.repeat(integer(indention)),
    separators: by as [string, string],
    sortKeys: truth(sortKeys ?? false),
  });
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&#39;', '"': '&#34;' };
const escaped: Builtin = ['', (value) => str(value).replace(/[&<>'"]/g, (character) => entities[character]!)];
const length: Builtin = ['', lengthOf];
const otherwise: Builtin = [
  'default_value boolean',
  (value, instead, isBoolean) => (value instanceof Undefined || (truth(isBoolean ?? false) && !truth(value)) ? (instead ?? '') : value),
];

const filters: Readonly<Record<string, Builtin>> = {
  abs: ['', (value) => (isFloat(value) ? float(Math.abs(numberOf(value)!)) : Math.abs(numberOf(value) ?? throwTyped('abs', value)))],
  attr: ['name', (value, name) => methodOf(value, text(name)) ?? missing(value, text(name))],
  batch: ['linecount fill_with', (items, count, fill) => batches(iterate(items), integer(count), fill)],
  capitalize: ['', (value) => capitalized(str(value))],
  center: ['width', (value, width) => attributeCall(str(value), 'center', [width ?? 80])],
  count: length,
  d: otherwise,
  default: otherwise,
  dictsort: [
    'case_sensitive by reverse',
    (dict, caseSensitive, by, reverse) =>
      sorted(attributeCall(dict, 'items', []) as Value[], sortKey(by === 'value' ? 1 : 0, caseSensitive), reverse),
  ],
  e: escaped,
  escape: escaped,
  first: ['', (items) => iterate(items)[0] ?? emptyAt(items, 0)],
  float: ['default', (value, instead) => floatOf(typeof value === 'string' ? parsed(value) : numberOf(value)) ?? instead ?? new Float(0)],
  forceescape: escaped,
  format: ['*', (value, ...args) => formatPercent(str(value), tupleOf(args as Value[]))],
  groupby: ['attribute default case_sensitive', groupBy],
  indent: ['width first blank', indent],
  int: ['default base', toInteger],
  items: ['', (value) => (value instanceof Undefined ? [] : value instanceof Map ? pairs(value) : throwTyped('items', value))],
  join: [
    'd attribute',
    (items, by, path) =>
      iterate(items)
        .map((item) => str(getter(path)(item)))
        .join(str(by ?? '')),
  ],
  last: ['', (items) => (items instanceof Generator ? throwTyped('last', items) : (iterate(items).at(-1) ?? emptyAt(items, -1)))],
  length,
  list: ['', (items) => [...iterate(items)]],
  lower: ['', (value) => str(value).toLowerCase()],
  max: ['case_sensitive attribute', extreme(1)],
  min: ['case_sensitive attribute', extreme(-1)],
  reject: ['*', selecting(false, false)],
  rejectattr: ['*', selecting(false, true)],
  replace: [
    'old new count',
    (value, from, to, count) => replace(str(value), str(from!), str(to!), count === null ? -1 : integer(count, -1)),
  ],
  reverse: [
    '',
    (value) => (typeof value === 'string' ? Array.from(value).reverse().join('') : new Generator([...iterate(value)].reverse())),
  ],
  round: ['precision method', round],
  safe: ['', (value) => str(value)],
  select: ['*', selecting(true, false)],
  selectattr: ['*', selecting(true, true)],
  slice: ['slices fill_with', (items, count, fill) => slices([...iterate(items)], integer(count), fill)],
  sort: [
    'reverse case_sensitive attribute',
    (items, reverse, caseSensitive, path) => sorted(iterate(items), sortKeys(path, caseSensitive), reverse),
  ],
  string: ['', (value) => str(value)],
  sum: ['attribute start', (items, path, start) => iterate(items).reduce((total, item) => plus(total, getter(path)(item)), start ?? 0)],
  title: ['', (value) => str(value).replace(/[^-\s({[<]+/g, capitalized)],
  tojson: ['ensure_ascii indent separators sort_keys', toJson],
  trim: ['chars', (value, characters) => strip(str(value), characters)],
  truncate: [
    'length killwords end leeway',
    (value, longest, kill, end, leeway) =>
      truncate(text(value), integer(longest, 255), truth(kill ?? false), text(end, '...'), integer(leeway ?? undefined, 5)),
  ],
  unique: ['case_sensitive attribute', unique],
  upper: ['', (value) => str(value).toUpperCase()],
  urlencode: [
    '',
    (value) =>
      encodeURIComponent(str(value))
        .replaceAll('%2F', '/')
        .replace(/[!'()*]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`),
  ],
  wordcount: ['', (value) => (str(value).match(/[\p{L}\p{N}_]+/gu) ?? []).length],
};

const floatOf = (number: number | null): Value | null => (number === null ? null : float(number));
const plus = (a: Value, b: Value): Value => {
  const total = (numberOf(a) ?? throwTyped('sum', a)) + (numberOf(b) ?? throwTyped('sum', b));
  return isFloat(a) || isFloat(b) ? float(total) : total;
};
const attributeCall = (object: Value, name: string, args: Value[]): Value => call(attributeOf(object, name), [args, {}]);

/** `first` and `last` of nothing; an item that is `None` comes here too. */
const emptyAt = (items: Value, index: number): Value =>
  Array.isArray(items) && items.length > 0 ? items.at(index)! : new Undefined('No item, sequence was empty.');

/** Sorts by several attributes with commas between them. */
const sortKeys = (path: Value | undefined, caseSensitive: Value | undefined): ((item: Value) => Value) => {
  if (typeof path !== 'string' || !path.includes(',')) return sortKey(path, caseSensitive);
  const keys = path.split(',').map((one) => sortKey(one, caseSensitive));
  return (item) => keys.map((key) => key(item));
};

function batches(items: Value[], size: number, fill: Value | undefined): Value {
  const found: Value[][] = [];
  for (let start = 0; start < items.length; start += size) found.push(items.slice(start, start + size));
  const last = found.at(-1);
  if (last !== undefined && fill !== undefined && fill !== null) while (last.length < size) last.push(fill);
  return new Generator(found);
}

function slices(items: Value[], count: number, fill: Value | undefined): Value {
  const [each, longer] = [Math.floor(items.length / count), items.length % count];
  const found = Array.from({ length: count }, (_, index) => {
    const part = items.splice(0, each + (index < longer ? 1 : 0));
    return index >= longer && fill !== undefined && fill !== null ? [...part, fill] : part;
  });
  return new Generator(found);
}

function unique(items: Value, caseSensitive: Value | undefined, path: Value | undefined): Value {
  const key = sortKey(path, caseSensitive);
  const seen: Value[] = [];
  return new Generator(
    iterate(items).filter((item) => {
      const by = key(item);
      const isNew = !seen.some((one) => equals(one, by));
      if (isNew) seen.push(by);
      return isNew;
    }),
  );
}

function groupBy(items: Value, path: Value | undefined, instead: Value | undefined, caseSensitive: Value | undefined): Value {
  const read = (item: Value): Value => {
    const value = getter(path)(item);
    return value instanceof Undefined && instead !== undefined ? instead : value;
  };
  const key = (item: Value): Value => (truth(caseSensitive ?? false) ? read(item) : folded(read(item)));
  const groups: [Value, Value[]][] = [];
  for (const item of sorted(iterate(items), key, false)) {
    const last = groups.at(-1);
    if (last !== undefined && equals(key(last[1][0]!), key(item))) last[1].push(item);
    else groups.push([read(item), [item]]);
  }
  return groups.map(([grouper, list]) => tupleOf([grouper, list]));
}

/** `value | name(...)`. */
export function filter(name: string, value: Value, given: Given): Value {
  if (name === 'map') return mapped(value, given);
  const found = Object.hasOwn(filters, name) ? filters[name] : undefined;
  if (found === undefined) throw new JinjaError(`No filter named '${name}'.`);
  return apply(name, found, value, given);
}

function mapped(value: Value, [[name, ...args], named]: Given): Value {
  const { attribute, default: instead, ...others } = named;
  const read = getter(attribute);
  return new Generator(
    itemsOf(value).map((item) => {
      if (name !== undefined) return filter(text(name), item, [args, others]);
      const found = read(item);
      return found instanceof Undefined && instead !== undefined ? instead : found;
    }),
  );
}

type Test = (value: Value, ...args: Value[]) => boolean;
const whole = (value: Value): number => numberOf(value) ?? throwTyped('the test', value);
const atLeast: Test = (value, other) => compare(value, other!) >= 0;
const atMost: Test = (value, other) => compare(value, other!) <= 0;
const less: Test = (value, other) => compare(value, other!) < 0;
const more: Test = (value, other) => compare(value, other!) > 0;
const same: Test = (value, other) => equals(value, other!);
const different: Test = (value, other) => !equals(value, other!);

const tests: Readonly<Record<string, Test>> = {
  odd: (value) => Math.abs(whole(value) % 2) === 1,
  even: (value) => whole(value) % 2 === 0,
  divisibleby: (value, by) => whole(value) % whole(by!) === 0,
  defined: (value) => !(value instanceof Undefined),
  undefined: (value) => value instanceof Undefined,
  none: (value) => value === null,
  boolean: (value) => typeof value === 'boolean',
  true: (value) => value === true,
  false: (value) => value === false,
  integer: (value) => typeof value !== 'boolean' && numberOf(value) !== null && !isFloat(value),
  float: isFloat,
  number: (value) => numberOf(value) !== null,
  string: (value) => typeof value === 'string',
  mapping: (value) => value instanceof Map,
  sequence: (value) => typeof value === 'string' || value instanceof Map || Array.isArray(value) || value instanceof Undefined,
  iterable: (value) =>
    typeof value === 'string' || value instanceof Map || Array.isArray(value) || value instanceof Undefined || value instanceof Generator,
  callable: (value) => typeof value === 'function',
  sameas: (value, other) => value === other,
  escaped: () => false,
  lower: (value) => attributeCall(str(value), 'islower', []) === true,
  upper: (value) => attributeCall(str(value), 'isupper', []) === true,
  filter: (value) => value === 'map' || Object.hasOwn(filters, str(value)),
  test: (value) => Object.hasOwn(tests, str(value)),
  in: (value, container) => contains(container!, value),
  '==': same,
  eq: same,
  equalto: same,
  '!=': different,
  ne: different,
  '>': more,
  gt: more,
  greaterthan: more,
  '>=': atLeast,
  ge: atLeast,
  '<': less,
  lt: less,
  lessthan: less,
  '<=': atMost,
  le: atMost,
};

/** `value is name(...)`. */
export function test(name: string, value: Value, [args]: Given): boolean {
  const found = Object.hasOwn(tests, name) ? tests[name] : undefined;
  if (found === undefined) throw new JinjaError(`No test named '${name}'.`);
  return found(value, ...args);
}

const mostNumbers = 100_000;

/** What every template may call. */
export const globals: Readonly<Record<string, Callable>> = {
  range: (args) => {
    const [start, stop, step] = args.length === 1 ? [0, integer(args[0]), 1] : [integer(args[0]), integer(args[1]), integer(args[2], 1)];
    if (step === 0) throw new JinjaError('range() arg 3 must not be zero');
    const count = Math.max(0, Math.ceil((stop - start) / step));
    if (count > mostNumbers) throw new JinjaError(`range() gives at most ${mostNumbers} numbers`);
    return Array.from({ length: count }, (_, index) => start + index * step);
  },
  namespace: (args, named) => new Namespace(dictOf(args, named)),
  dict: (args, named) => dictOf(args, named),
  joiner: ([separator = ', ']) => {
    let used = false;
    return () => {
      const text = used ? separator : '';
      used = true;
      return text;
    };
  },
  cycler: (items) => {
    let index = 0;
    const cycle = new Namespace(new Map<Value, Value>([['current', items[0] ?? null]]));
    cycle.attributes.set('next', () => {
      const item = items[index++ % items.length] ?? null;
      cycle.attributes.set('current', items[index % items.length] ?? null);
      return item;
    });
    return cycle;
  },
};

function dictOf([source]: Value[], named: Named): Map<Value, Value> {
  const entries =
    source === undefined ? [] : source instanceof Map ? [...source] : iterate(source).map((pair) => iterate(pair) as [Value, Value]);
  return new Map([...entries, ...Object.entries(named)]);
}
