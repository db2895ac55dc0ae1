import { join, repeat, spend } from './budget.ts';
import { percent } from './format.ts';
import { toJson } from './json.ts';
import {
  attributeOf,
  builtins,
  call,
  capitalized,
  type Given,
  integer,
  itemOf,
  itemsOf,
  linesOf,
  replace,
  reverse,
  strip,
  text,
} from './methods.ts';
import { compare, comparisons, equals, operate } from './operators.ts';
import {
  type Callable,
  Float,
  float,
  Generator,
  isFloat,
  iterate,
  JinjaError,
  type Named,
  Namespace,
  newDict,
  numberOf,
  repr,
  str,
  truth,
  tupleOf,
  Undefined,
  undefinedIn,
  type Value,
} from './values.ts';

type Argument = Value | undefined;

/** `value | name(...)`. @throws JinjaError */
export function filter(name: string, value: Value, given: Given): Value {
  if (name === 'map') return mapped(value, given);
  const run = filters.get(name);
  if (run === undefined) throw new JinjaError(`No filter named '${name}'.`);
  return run(value, given);
}

/** `value is name(...)`. @throws JinjaError */
export function test(name: string, value: Value, [args]: Given): boolean {
  spend();
  const run = Object.hasOwn(tests, name) ? tests[name] : comparisons[comparisonNames[name] ?? name];
  if (run === undefined) throw new JinjaError(`No test named '${name}'.`);
  return run(value, args[0] ?? null);
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&#39;', '"': '&#34;' };
const escaped = (value: Value) => str(value).replace(/[&<>'"]/g, (character) => entities[character]!);
const otherwise = (value: Value, instead: Argument, orFalse: Argument): Value =>
  value instanceof Undefined || (isSet(orFalse) && !truth(value)) ? (instead ?? '') : value;

const filters = builtins<Value>({
  abs: (value) => (isFloat(value) ? float(Math.abs(numberOf(value)!)) : Math.abs(number(value))),
  capitalize: (value) => capitalized(str(value)),
  count: lengthOf,
  'd default_value boolean': otherwise,
  'default default_value boolean': otherwise,
  'dictsort case_sensitive by reverse': (dict, caseSensitive, by, backwards) =>
    sorted(attributeCall(dict, 'items') as Value[], sortKey(by === 'value' ? 1 : 0, caseSensitive), backwards),
  e: escaped,
  escape: escaped,
  first: (items) => itemOr(iterate(items), 0),
  'float default': (value, instead) => {
    const found = typeof value === 'string' ? parsed(value) : numberOf(value);
    return found === null ? (instead ?? new Float(0)) : float(found);
  },
  'format *': (value, ...args) => percent(str(value), tupleOf(args as Value[])),
  'indent width first blank': indent,
  'int default base': (value, instead, base) => {
    const found = typeof value === 'string' ? parsed(value, integer(base, 10)) : numberOf(value);
    return found === null || !Number.isFinite(found) ? (instead ?? 0) : Math.trunc(found);
  },
  items: (value) => new Generator(value instanceof Map ? itemsOf(value) : value instanceof Undefined ? [] : refuse('items', value)),
  'join d attribute': (items, by, path) =>
    join(
      Array.from(iterate(items), (item) => str(getter(path)(item))),
      str(by ?? ''),
    ),
  last: (items) => (items instanceof Generator ? refuse('last', items) : itemOr(iterate(items), -1)),
  length: lengthOf,
  list: (items) => [...iterate(items)],
  lower: (value) => str(value).toLowerCase(),
  'max case_sensitive attribute': (items, caseSensitive, path) => itemOr(sorted(iterate(items), sortKey(path, caseSensitive), true), 0),
  'min case_sensitive attribute': (items, caseSensitive, path) => itemOr(sorted(iterate(items), sortKey(path, caseSensitive), false), 0),
  'reject *': selecting(false, false),
  'rejectattr *': selecting(false, true),
  'replace old new count': (value, from, to, count) => replace(str(value), str(from!), str(to!), integer(count ?? undefined, -1)),
  reverse: (value) =>
    typeof value === 'string' ? reverse(value) : Array.isArray(value) ? new Generator(value.toReversed()) : iterate(value).reverse(),
  'round precision method': round,
  safe: str,
  'select *': selecting(true, false),
  'selectattr *': selecting(true, true),
  'sort reverse case_sensitive attribute': (items, backwards, caseSensitive, path) =>
    sorted(iterate(items), sortKey(path, caseSensitive), backwards),
  string: str,
  'sum attribute start': (items, path, start) =>
    iterate(items).reduce((total, item) => operate('+', total, getter(path)(item)), start ?? 0),
  title: (value) => str(value).replace(/[^-\s({[<]+/g, capitalized),
  'tojson ensure_ascii indent separators sort_keys': toJson,
  'trim chars': (value, characters) => strip(str(value), characters),
  'unique case_sensitive attribute': unique,
  upper: (value) => str(value).toUpperCase(),
});

/** Names of comparisons as tests. */
const comparisonNames: Readonly<Record<string, string>> = {
  eq: '==',
  equalto: '==',
  ne: '!=',
  gt: '>',
  greaterthan: '>',
  ge: '>=',
  lt: '<',
  lessthan: '<',
  le: '<=',
};

const isSequence = (value: Value): boolean =>
  typeof value === 'string' || value instanceof Map || Array.isArray(value) || value instanceof Undefined;

const tests: Readonly<Record<string, (value: Value, other: Value) => boolean>> = {
  odd: (value) => Math.abs(number(value) % 2) === 1,
  even: (value) => number(value) % 2 === 0,
  divisibleby: (value, by) => number(value) % number(by) === 0,
  defined: (value) => !(value instanceof Undefined),
  undefined: (value) => value instanceof Undefined,
  none: (value) => value === null,
  boolean: (value) => typeof value === 'boolean',
  true: (value) => value === true,
  false: (value) => value === false,
  integer: (value) => typeof value === 'number' && Number.isInteger(value),
  float: isFloat,
  number: (value) => numberOf(value) !== null,
  string: (value) => typeof value === 'string',
  mapping: (value) => value instanceof Map,
  sequence: isSequence,
  iterable: (value) => isSequence(value) || value instanceof Generator,
  callable: (value) => typeof value === 'function' || value instanceof Undefined,
  sameas: (value, other) => value === other,
  lower: (value) => attributeCall(str(value), 'islower') === true,
  upper: (value) => attributeCall(str(value), 'isupper') === true,
  filter: (value) => value === 'map' || filters.has(str(value)),
  test: (value) => Object.hasOwn(tests, str(value)),
};

const mostNumbers = 100_000;

/** The functions of every template. */
export const globals: Readonly<Record<string, Callable>> = {
  range: (args) => {
    const [start, stop, step] = args.length === 1 ? [0, integer(args[0]), 1] : [integer(args[0]), integer(args[1]), integer(args[2], 1)];
    if (step === 0) throw new JinjaError('range() arg 3 must not be zero');
    const count = Math.max(0, Math.ceil((stop - start) / step));
    if (count > mostNumbers) throw new JinjaError(`range() gives at most ${mostNumbers} numbers`);
    spend(count);
    return Array.from({ length: count }, (_, index) => start + index * step);
  },
  namespace: (args, named) => new Namespace(dictOf(args, named)),
  dict: dictOf,
};

function dictOf([source = new Map<Value, Value>()]: Value[], named: Named): Map<Value, Value> {
  const pairs = source instanceof Map ? [...source] : iterate(source).map((pair) => iterate(pair) as [Value, Value]);
  return newDict([...pairs, ...named]);
}

const isSet = (flag: Argument): boolean => flag !== undefined && truth(flag);
const attributeCall = (object: Value, name: string): Value => call(attributeOf(object, name), [[], new Map()]);
const number = (value: Value): number => numberOf(value) ?? refuse('the filter or test', value);

function refuse(name: string, value: Value): never {
  throw undefinedIn(value) ?? new JinjaError(`${name} does not take ${repr(value)}`);
}

function itemOr(items: readonly Value[], index: number): Value {
  const item = items.at(index);
  return item === undefined ? new Undefined('No item, sequence was empty.') : item;
}

function lengthOf(value: Value): number {
  if (typeof value === 'string') return Array.from(value).length;
  if (value instanceof Map) return value.size;
  if (Array.isArray(value)) return value.length;
  return value instanceof Undefined ? 0 : refuse('length', value);
}

/** Reads `a.b.0` of an item; the item itself without a path. @param instead of what is missing on the way. */
function getter(path: Argument, instead?: Argument): (item: Value) => Value {
  if (path === undefined || path === null) return (item) => item;
  const keys = typeof path === 'string' ? path.split('.').map((key) => (/^\d+$/.test(key) ? Number(key) : key)) : [path];
  const read = (object: Value, key: Value): Value => {
    const item = itemOf(object, key);
    return instead !== undefined && item instanceof Undefined ? instead : item;
  };
  return (item) => keys.reduce<Value>(read, item);
}

/** Strings are compared without case, unless told otherwise. */
function sortKey(path: Argument, caseSensitive: Argument): (item: Value) => Value {
  return (item) => {
    const value = getter(path)(item);
    return typeof value === 'string' && !isSet(caseSensitive) ? value.toLowerCase() : value;
  };
}

function sorted(items: readonly Value[], key: (item: Value) => Value, backwards: Argument): Value[] {
  const sign = isSet(backwards) ? -1 : 1;
  const keyed = items.map((item) => ({ item, by: key(item) }));
  return keyed.sort((a, b) => sign * compare(a.by, b.by)).map(({ item }) => item);
}

/** For filters that take a false value, `None` among them, as empty. */
const itemsIn = (value: Value): Value[] => (truth(value) ? iterate(value) : []);

/** Keeps items by a test of themselves, or of the attribute that the first argument names. */
function selecting(keeps: boolean, byAttribute: boolean) {
  return (items: Value, ...args: Argument[]): Value => {
    const read = byAttribute ? getter(args[0]) : (item: Value) => item;
    const [name, ...given] = (byAttribute ? args.slice(1) : args) as Value[];
    const holds = (value: Value): boolean => (name === undefined ? truth(value) : test(text(name), value, [given, new Map()]));
    return new Generator(itemsIn(items).filter((item) => holds(read(item)) === keeps));
  };
}

function mapped(value: Value, [[name, ...args], named]: Given): Value {
  const each =
    name === undefined ? getter(named.get('attribute'), named.get('default')) : (item: Value) => filter(text(name), item, [args, named]);
  return new Generator(itemsIn(value).map(each));
}

function unique(items: Value, caseSensitive: Argument, path: Argument): Value {
  const key = sortKey(path, caseSensitive);
  const seen: Value[] = [];
  const isNew = (by: Value): boolean => !seen.some((one) => equals(one, by)) && seen.push(by) > 0;
  return new Generator(iterate(items).filter((item) => isNew(key(item))));
}

/** Python's `int` and `float` of a text; null if it is no number. */
function parsed(value: string, base = 10): number | null {
  const digits = strip(value, undefined).replace(/(?<=\d)_(?=\d)/g, '');
  if (base !== 10) return Number.isNaN(Number.parseInt(digits, base)) ? null : Number.parseInt(digits.replace(/^0[box]/i, ''), base);
  return /^[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?$/i.test(digits) ? Number(digits) : null;
}

function round(value: Value, precision: Argument, method: Argument): Value {
  const scale = 10 ** integer(precision, 0);
  const scaled = number(value) * scale;
  const even = Math.abs(scaled % 1) === 0.5 ? 2 * Math.round(scaled / 2) : Math.round(scaled);
  const rounded = (method === 'ceil' ? Math.ceil(scaled) : method === 'floor' ? Math.floor(scaled) : even) / scale;
  return isFloat(value) || method !== undefined ? float(rounded) : rounded;
}

function indent(value: Value, width: Argument, first: Argument, blank: Argument): string {
  const indention = typeof width === 'string' ? width : repeat(' ', integer(width, 4));
  const [start = '', ...rest] = linesOf(`${text(value)}\n`);
  const indented = rest.map((line) => (line === '' && !isSet(blank) ? line : indention + line));
  return (isSet(first) ? indention : '') + join([start, ...indented], '\n');
}
