/** A template that is malformed, or that failed while it ran. */
export class JinjaError extends Error {
  /** Line of the template, counted from 1; null until the statement is known. */
  line: number | null;

  constructor(what: string, line: number | null = null) {
    super(what);
    this.line = line;
  }
}

/**
 * A Python value: `str`, `bool` and `None` are JavaScript's; a number without a fraction is an `int` unless it is in a `Float`; a `list` is an array and a `dict`
 * a Map.
 */
export type Value = string | number | boolean | null | Undefined | Float | Value[] | Map<Value, Value> | Namespace | Generator | Callable;
export type Named = Readonly<Record<string, Value>>;
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

export function tupleOf(items: readonly Value[]): Tuple {
  const tuple = new Tuple();
  tuple.push(...items);
  return tuple;
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

/** What filters such as `map` and `selectattr` give: true even if empty, and empty once it has been walked over. */
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
  if (Array.isArray(value)) return value;
  if (typeof value === 'string') return Array.from(value);
  if (value instanceof Map) return [...value.keys()];
  if (value instanceof Generator) return value.take();
  if (value instanceof Undefined) return [];
  throw new JinjaError(`'${typeName(value)}' object is not iterable`);
}

export function equals(a: Value, b: Value): boolean {
  const [left, right] = [numberOf(a), numberOf(b)];
  if (left !== null && right !== null) return left === right;
  if (Array.isArray(a) && Array.isArray(b)) {
    return a instanceof Tuple === b instanceof Tuple && a.length === b.length && a.every((item, index) => equals(item, b[index]!));
  }
  if (a instanceof Map && b instanceof Map) {
    return a.size === b.size && [...a].every(([key, item]) => b.has(key) && equals(item, b.get(key)!));
  }
  return a === b || (a instanceof Undefined && b instanceof Undefined);
}

/** Negative where `a` comes first. @throws JinjaError for values without an order. */
export function compare(a: Value, b: Value): number {
  const [left, right] = [numberOf(a), numberOf(b)];
  if (left !== null && right !== null) return left - right;
  if (typeof a === 'string' && typeof b === 'string') return compareItems(Array.from(a, codePoint), Array.from(b, codePoint));
  if (Array.isArray(a) && Array.isArray(b)) return compareItems(a, b);
  throw undefinedIn(a, b) ?? new JinjaError(`'${typeName(a)}' and '${typeName(b)}' have no order`);
}

const codePoint = (character: string): number => character.codePointAt(0)!;

function compareItems(a: readonly Value[], b: readonly Value[]): number {
  const at = a.findIndex((item, index) => index >= b.length || !equals(item, b[index]!));
  if (at < 0) return a.length - b.length;
  return at >= b.length ? 1 : compare(a[at]!, b[at]!);
}

export function contains(container: Value, item: Value): boolean {
  if (container instanceof Map) return container.has(item);
  if (typeof container !== 'string') return iterate(container).some((one) => equals(one, item));
  if (typeof item === 'string') return container.includes(item);
  throw undefinedIn(item) ?? new JinjaError(`'in <string>' requires a string, not ${typeName(item)}`);
}

/** The error of using a missing value; null if none is missing. */
export function undefinedIn(...values: Value[]): JinjaError | null {
  const missing = values.find((value) => value instanceof Undefined);
  return missing instanceof Undefined ? new JinjaError(missing.hint) : null;
}

type Arithmetic = (a: number, b: number) => number;
const arithmetic: Readonly<Record<string, Arithmetic>> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => a / b,
  '//': (a, b) => Math.floor(a / b),
  '%': (a, b) => ((a % b) + b) % b,
  '**': (a, b) => a ** b,
};

/** @throws JinjaError for types that the operator does not take. */
export function operate(operator: string, a: Value, b: Value): Value {
  const [left, right] = [numberOf(a), numberOf(b)];
  if (left !== null && right !== null) {
    if (right === 0 && ['/', '//', '%'].includes(operator)) throw new JinjaError('division by zero');
    const result = arithmetic[operator]!(left, right);
    return isFloat(a) || isFloat(b) || operator === '/' || (operator === '**' && right < 0) ? float(result) : result;
  }
  if (operator === '+') {
    if (typeof a === 'string' && typeof b === 'string') return a + b;
    if (Array.isArray(a) && Array.isArray(b) && a instanceof Tuple === b instanceof Tuple) return like(a, [...a, ...b]);
  }
  if (operator === '%' && typeof a === 'string') return formatPercent(a, b);
  if (operator === '*') {
    const [sequence, times] = left === null ? [a, right] : [b, left];
    if (typeof sequence === 'string' && times !== null) return sequence.repeat(Math.max(0, times));
    if (Array.isArray(sequence) && times !== null) return like(sequence, Array.from({ length: Math.max(0, times) }, () => sequence).flat());
  }
  throw undefinedIn(a, b) ?? new JinjaError(`'${operator}' does not take '${typeName(a)}' and '${typeName(b)}'`);
}

const like = (sequence: Value[], items: Value[]): Value[] => (sequence instanceof Tuple ? tupleOf(items) : items);

/** `text % values`. */
export function formatPercent(text: string, values: Value): string {
  const given = values instanceof Tuple ? [...values] : [values];
  const pattern = /%(?:\((\w+)\))?([-0+ ]*)(\d*)(?:\.(\d+))?([sdifrxXeg%])/g;
  return text.replace(pattern, (_, name, flags: string, width: string, precision: string | undefined, type: string) => {
    if (type === '%') return '%';
    const value = name === undefined ? given.shift() : (values as Map<Value, Value>).get(name);
    if (value === undefined) throw new JinjaError('not enough arguments for format string');
    const spec = `${flags.includes('-') || type !== 's' ? '' : '>'}${flags.replace('-', '<')}${width}${precision === undefined ? '' : `.${precision}`}`;
    return type === 'r' ? repr(value) : format(value, `${spec}${type === 'i' ? 'd' : type}`);
  });
}

/** `format(value, spec)`: alignment, sign, width, thousands, precision and the types s, d, f, e, x and %. */
export function format(value: Value, spec: string): string {
  const parsed = /^(?:(.)?([<>^=]))?([-+ ]?)(0?)(\d*)(,?)(?:\.(\d+))?([sdfFexXg%]?)$/.exec(spec);
  if (parsed === null) throw new JinjaError(`Invalid format specifier '${spec}'`);
  const [, fill, align, sign, zero, width, comma, precision, type] = parsed as unknown as string[];
  const number = numberOf(value);
  const digits = precision === undefined ? undefined : Number(precision);
  let text = str(value);
  if (type === 's' || number === null) text = digits === undefined ? text : text.slice(0, digits);
  else if (type === 'x' || type === 'X') text = type === 'x' ? number.toString(16) : number.toString(16).toUpperCase();
  else if (type === 'd') text = String(Math.trunc(number));
  else if (type === '%') text = `${(number * 100).toFixed(digits ?? 6)}%`;
  else if (type === 'e') text = number.toExponential(digits ?? 6).replace(/e([-+])(\d)$/, 'e$10$2');
  else if (type === 'f' || type === 'F' || digits !== undefined) text = number.toFixed(digits ?? 6);
  if (comma === ',') text = text.replace(/\B(?=(\d{3})+(?!\d))/g, ',');
  if (number !== null && number >= 0 && sign !== '-' && sign) text = sign + text;
  const missing = ' '.repeat(0) + (fill ?? (zero ? '0' : ' ')).repeat(Math.max(0, Number(width) - Array.from(text).length));
  const side = align ?? (number !== null && type !== 's' ? (zero ? '=' : '>') : '<');
  if (side === '<') return text + missing;
  if (side === '^') return missing.slice(0, missing.length >> 1) + text + missing.slice(missing.length >> 1);
  return side === '=' && /^[-+]/.test(text) ? text[0] + missing + text.slice(1) : missing + text;
}

function floatText(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  const [digits, exponent] = value.toExponential().split('e') as [string, string];
  if (Number(exponent) < -4 || Number(exponent) >= 16) return `${digits}e${exponent.replace(/([-+])(\d)$/, '$10$2')}`;
  const text = Object.is(value, -0) ? '-0' : String(value);
  return text.includes('.') ? text : `${text}.0`;
}

const numberText = (value: number | Float): string =>
  isFloat(value) ? floatText(numberOf(value)!) : Number.isSafeInteger(value) ? String(value) : BigInt(value as number).toString();

/** `str(value)`: what a template prints. */
export function str(value: Value): string {
  if (typeof value === 'string') return value;
  return value instanceof Undefined ? '' : repr(value);
}

/** `repr(value)`: what a template prints of the items of a list or dict. */
export function repr(value: Value): string {
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
  const code = codePoint(character);
  const hex = (width: number): string => code.toString(16).padStart(width, '0');
  if (code < 0x100) return `\\x${hex(2)}`;
  return code < 0x10000 ? `\\u${hex(4)}` : `\\U${hex(8)}`;
}

export interface JsonOptions {
  ensureAscii: boolean;
  indent: string | null;
  separators: readonly [string, string];
  sortKeys: boolean;
}

/** Python's `json.dumps`. @throws JinjaError for a value that JSON cannot hold. */
export function dumps(value: Value, options: JsonOptions, depth = 0): string {
  const { indent, separators, sortKeys } = options;
  const wrapped = (open: string, items: string[], close: string): string => {
    if (items.length === 0) return open + close;
    const line = (at: number): string => (indent === null ? '' : `\n${indent.repeat(at)}`);
    return open + line(depth + 1) + items.join(separators[0] + line(depth + 1)) + line(depth) + close;
  };
  if (value === null) return 'null';
  if (typeof value === 'string') return jsonString(value, options.ensureAscii);
  if (typeof value === 'boolean') return String(value);
  if (isNumber(value)) return numberText(value).replace('inf', 'Infinity').replace('nan', 'NaN');
  if (Array.isArray(value))
    return wrapped(
      '[',
      value.map((item) => dumps(item, options, depth + 1)),
      ']',
    );
  if (value instanceof Map) {
    const entries = sortKeys ? [...value].sort(([a], [b]) => compare(a, b)) : [...value];
    const key = (name: Value): string => jsonString(typeof name === 'string' ? name : dumps(name, options), options.ensureAscii);
    return wrapped(
      '{',
      entries.map(([name, item]) => key(name) + separators[1] + dumps(item, options, depth + 1)),
      '}',
    );
  }
  throw new JinjaError(`Object of type ${typeName(value)} is not JSON serializable`);
}

function jsonString(text: string, ensureAscii: boolean): string {
  const escapeUnits = (found: string): string =>
    found.replace(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return ensureAscii ? JSON.stringify(text).replace(/[^ -~]/g, escapeUnits) : JSON.stringify(text);
}
