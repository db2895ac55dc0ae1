import { spend, spendOn } from './budget.ts';

const longestMessage = 500;

/** A template that is malformed, or that failed while it ran. */
export class JinjaError extends Error {
  /** Line of the template, counted from 1; null until the statement is known. */
  line: number | null;

  constructor(what: string, line: number | null = null) {
    super(what.length > longestMessage ? `${what.slice(0, longestMessage)}…` : what);
    this.line = line;
  }
}

/**
 * A Python value: `str`, `bool` and `None` are JavaScript's; a number without a fraction is an `int` unless it is in a `Float`; a `list` is an array and a
 * `dict` a Map.
 */
export type Value = string | number | boolean | null | Undefined | Float | Value[] | Map<Value, Value> | Namespace | Generator | Callable;
export type Named = ReadonlyMap<string, Value>;
export type Callable = (args: Value[], named: Named) => Value;

/** A missing variable, key or attribute. It prints as nothing and is false; most uses of it fail with its name. */
export class Undefined {
  readonly hint: string;

  constructor(hint: string) {
    this.hint = hint;
  }
}

/** A `float` without a fraction, such as `4 / 2`. */
export class Float {
  readonly value: number;

  constructor(value: number) {
    this.value = value;
  }
}

export class Tuple extends Array<Value> {
  /** So that `map` and `filter` give lists. */
  static override get [Symbol.species](): ArrayConstructor {
    return Array;
  }
}

export const tupleOf = (items: Iterable<Value>): Tuple => Tuple.from(items) as Tuple;

/** A `dict` of these entries; a later one replaces an earlier one with the same key. */
export function newDict(entries: Iterable<readonly [Value, Value]>): Map<Value, Value> {
  const dict = new Map(entries);
  spendOn(dict, ...dict.keys());
  return dict;
}

/** Has attributes and no keys: what `namespace()` makes, and `loop`. */
export class Namespace {
  readonly attributes: Map<Value, Value>;
  readonly call: Callable | undefined;

  constructor(attributes: Map<Value, Value>, call?: Callable) {
    this.attributes = attributes;
    this.call = call;
  }
}

/** The result of filters such as `map` and `selectattr`: true even if empty, and empty after the first walk over it. */
export class Generator {
  private items: Value[];

  constructor(items: Value[]) {
    this.items = items;
  }

  take(): Value[] {
    const { items } = this;
    this.items = [];
    return items;
  }
}

/** A value of JSON as the template sees it. */
export function toPython(value: unknown): Value {
  if (Array.isArray(value)) return value.map(toPython);
  if (typeof value !== 'object' || value === null) return value as Value;
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return new Map(entries.map(([key, item]) => [key, toPython(item)]));
}

const isNumber = (value: Value): value is number | Float => typeof value === 'number' || value instanceof Float;

export const isFloat = (value: Value): boolean => value instanceof Float || (typeof value === 'number' && !Number.isInteger(value));

/** A number, with `True` as 1; null for anything else. */
export function numberOf(value: Value): number | null {
  if (value instanceof Float) return value.value;
  if (typeof value === 'boolean') return Number(value);
  return typeof value === 'number' ? value : null;
}

/** A number as a `float`. */
export const float = (value: number): number | Float => (Number.isInteger(value) ? new Float(value) : value);

export function typeName(value: Value): string {
  if (value === null) return 'NoneType';
  if (value instanceof Tuple) return 'tuple';
  if (Array.isArray(value)) return 'list';
  if (value instanceof Map) return 'dict';
  if (isFloat(value)) return 'float';
  if (typeof value === 'object') return value.constructor.name;
  return { string: 'str', number: 'int', boolean: 'bool' }[typeof value as string] ?? typeof value;
}

export function truth(value: Value): boolean {
  if (value instanceof Map) return value.size > 0;
  if (Array.isArray(value)) return value.length > 0;
  if (isNumber(value)) return numberOf(value) !== 0;
  return Boolean(value) && !(value instanceof Undefined);
}

/** The items of what a `for` may walk over. */
export function iterate(value: Value): Value[] {
  const items = listOf(value);
  spend(items.length);
  return items;
}

function listOf(value: Value): Value[] {
  if (Array.isArray(value)) return value;
  if (typeof value === 'string') return Array.from(value);
  if (value instanceof Map) return [...value.keys()];
  if (value instanceof Generator) return value.take();
  if (value instanceof Undefined) return [];
  throw new JinjaError(`'${typeName(value)}' object is not iterable`);
}

/** The error of using a missing value; null if none is missing. */
export function undefinedIn(...values: Value[]): JinjaError | null {
  const missing = values.find((value) => value instanceof Undefined);
  return missing instanceof Undefined ? new JinjaError(missing.hint) : null;
}

function floatText(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  const [digits, exponent] = value.toExponential().split('e') as [string, string];
  if (Number(exponent) < -4 || Number(exponent) >= 16) return `${digits}e${exponent.replace(/([-+])(\d)$/, '$10$2')}`;
  const text = Object.is(value, -0) ? '-0' : String(value);
  return text.includes('.') ? text : `${text}.0`;
}

export const numberText = (value: number | Float): string =>
  isFloat(value) ? floatText(numberOf(value)!) : Number.isSafeInteger(value) ? String(value) : BigInt(value as number).toString();

/** `str(value)`: what a template prints. */
export function str(value: Value): string {
  if (typeof value === 'string') return value;
  return value instanceof Undefined ? '' : repr(value);
}

/** `repr(value)`: what a template prints of the items of a list or dict. */
export function repr(value: Value): string {
  spendOn(value);
  if (typeof value === 'string') return quoted(value);
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (isNumber(value)) return numberText(value);
  if (value instanceof Tuple) return value.length === 1 ? `(${repr(value[0]!)},)` : `(${value.map(repr).join(', ')})`;
  if (Array.isArray(value)) return `[${value.map(repr).join(', ')}]`;
  if (value instanceof Map) return dictText(value);
  if (value instanceof Undefined) return 'Undefined';
  if (value instanceof Namespace) return `<Namespace ${dictText(value.attributes)}>`;
  return `<${value instanceof Generator ? 'generator object' : 'function'}>`;
}

const dictText = (dict: Map<Value, Value>): string => `{${[...dict].map(([key, item]) => `${repr(key)}: ${repr(item)}`).join(', ')}}`;

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const named: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\', [quote]: `\\${quote}` };
  return quote + text.replace(/[\\'"]|(?! )[\p{C}\p{Z}]/gu, (character) => named[character] ?? escaped(character)) + quote;
}

function escaped(character: string): string {
  if (/['"]/.test(character)) return character;
  const code = character.codePointAt(0)!;
  const hex = (width: number): string => code.toString(16).padStart(width, '0');
  if (code < 0x100) return `\\x${hex(2)}`;
  return code < 0x10000 ? `\\u${hex(4)}` : `\\U${hex(8)}`;
}
