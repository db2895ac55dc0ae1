import { repeat, spendOn } from './budget.ts';
import { JinjaError, type Named, numberOf, repr, str, Tuple, type Value } from './values.ts';

/** `text % values`, with the types s, d, f, x and r. */
export function percent(text: string, values: Value): string {
  const given = values instanceof Tuple ? [...values] : [values];
  return text.replace(/%(?:\((\w+)\))?(-?)(0?\d*(?:\.\d+)?)([sdifxr%])/g, (_, name, left: string, size: string, type: string) => {
    if (type === '%') return '%';
    const value = name === undefined ? given.shift() : (values as Map<Value, Value>).get(name);
    if (value === undefined) throw new JinjaError('not enough arguments for format string');
    const side = left === '-' ? '<' : type === 's' ? '>' : '';
    return type === 'r' ? repr(value) : format(value, `${side}${size}${type === 'i' ? 'd' : type}`);
  });
}

/** `text.format(...)`. */
export function formatFields(text: string, args: readonly Value[], named: Named, itemOf: (object: Value, key: Value) => Value): string {
  let next = 0;
  return text.replace(/\{\{|\}\}|\{([^{}:!]*)(?:!([rs]))?(?::([^{}]*))?\}/g, (whole, field: string | undefined, as, spec) => {
    if (field === undefined) return whole[0]!;
    const [first = '', ...path] = field.replace(/\[([^[\]]+)\]/g, '.$1').split('.');
    const from = first === '' ? args[next++] : /^\d+$/.test(first) ? args[Number(first)] : named.get(first);
    if (from === undefined) throw new JinjaError(`format() has no value for '{${field}}'`);
    const item = path.reduce<Value>((object, key) => itemOf(object, /^\d+$/.test(key) ? Number(key) : key), from);
    return format(as === 'r' ? repr(item) : item, spec ?? '');
  });
}

/** `format(value, spec)`: fill, alignment, width, thousands, precision and the types s, d, f, x and %. */
function format(value: Value, spec: string): string {
  const parsed = /^(?:(.)?([<>^]))?(0?)(\d*)(,?)(?:\.(\d+))?([sdfx%]?)$/.exec(spec);
  if (parsed === null) throw new JinjaError(`Invalid format specifier '${spec}'`);
  const [, fill, align, zero, width, comma, precision, type] = parsed as unknown as string[];
  const number = type === 's' ? null : numberOf(value);
  let text = str(value);
  spendOn(text);
  if (number === null) text = text.slice(0, precision === undefined ? undefined : Number(precision));
  else if (type === 'x') text = number.toString(16);
  else if (type === 'd') text = String(Math.trunc(number));
  else if (type === '%') text = `${(number * 100).toFixed(Number(precision ?? 6))}%`;
  else if (type === 'f' || precision !== undefined) text = number.toFixed(Number(precision ?? 6));
  if (comma === ',' && number !== null) text = text.replace(/^-?\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ','));
  const missing = repeat(fill ?? (zero || ' '), Number(width) - Array.from(text).length);
  const side = align ?? (number === null ? '<' : '>');
  if (side === '^') return missing.slice(0, missing.length >> 1) + text + missing.slice(missing.length >> 1);
  if (side === '<') return text + missing;
  return zero && text.startsWith('-') ? `-${missing}${text.slice(1)}` : missing + text;
}
