import { join, repeat, spendOn } from './budget.ts';
import { integer, text } from './methods.ts';
import { compare } from './operators.ts';
import { type Float, iterate, JinjaError, numberOf, numberText, truth, typeName, type Value } from './values.ts';

interface JsonOptions {
  ensureAscii: boolean;
  /** Null: one line. */
  indent: string | null;
  separators: readonly string[];
  sortKeys: boolean;
}

/** transformers' `tojson`: Python's `json.dumps`, without escapes for HTML. @throws JinjaError for a value that JSON cannot hold */
export function toJson(
  value: Value,
  ensureAscii: Value = false,
  indention: Value = null,
  separators: Value = null,
  sortKeys: Value = false,
): string {
  return dumps(value, {
    ensureAscii: truth(ensureAscii),
    indent: indention === null || typeof indention === 'string' ? indention : repeat(' ', integer(indention)),
    separators: separators === null ? [indention === null ? ', ' : ',', ': '] : Array.from(iterate(separators), (one) => text(one)),
    sortKeys: truth(sortKeys),
  });
}

function dumps(value: Value, options: JsonOptions, depth = 0): string {
  const { indent, separators, sortKeys, ensureAscii } = options;
  const wrapped = (open: string, items: string[], close: string): string => {
    if (items.length === 0) return open + close;
    const line = (at: number): string => (indent === null ? '' : `\n${repeat(indent, at)}`);
    return open + line(depth + 1) + join(items, separators[0] + line(depth + 1)) + line(depth) + close;
  };
  spendOn(value);
  if (value === null) return 'null';
  if (typeof value === 'string') return quoted(value, ensureAscii);
  if (typeof value === 'boolean') return String(value);
  if (numberOf(value) !== null)
    return numberText(value as number | Float)
      .replace('inf', 'Infinity')
      .replace('nan', 'NaN');
  if (Array.isArray(value))
    return wrapped(
      '[',
      value.map((item) => dumps(item, options, depth + 1)),
      ']',
    );
  if (!(value instanceof Map)) throw new JinjaError(`Object of type ${typeName(value)} is not JSON serializable`);
  const entries = sortKeys ? [...value].sort(([a], [b]) => compare(a, b)) : [...value];
  const key = (name: Value): string => quoted(typeof name === 'string' ? name : dumps(name, options), ensureAscii);
  return wrapped(
    '{',
    entries.map(([name, item]) => key(name) + separators[1] + dumps(item, options, depth + 1)),
    '}',
  );
}

function quoted(value: string, ensureAscii: boolean): string {
  const escaped = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return ensureAscii ? JSON.stringify(value).replace(/[^ -~]/g, escaped) : JSON.stringify(value);
}
