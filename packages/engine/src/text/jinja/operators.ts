import { repeat, spend, spendOn, spendOnSearch } from './budget.ts';
import { percent } from './format.ts';
import { float, isFloat, iterate, JinjaError, numberOf, Tuple, tupleOf, typeName, Undefined, undefinedIn, type Value } from './values.ts';

export function equals(a: Value, b: Value): boolean {
  spendOn(a);
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
  spendOn(a, b);
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
  spendOn(item);
  if (container instanceof Map) return container.has(item);
  if (typeof container !== 'string') return iterate(container).some((one) => equals(one, item));
  if (typeof item === 'string') {
    spendOnSearch(container, item);
    return container.includes(item);
  }
  throw undefinedIn(item) ?? new JinjaError(`'in <string>' requires a string, not ${typeName(item)}`);
}

export const comparisons: Readonly<Record<string, (a: Value, b: Value) => boolean>> = {
  '==': equals,
  '!=': (a, b) => !equals(a, b),
  '<': (a, b) => compare(a, b) < 0,
  '<=': (a, b) => compare(a, b) <= 0,
  '>': (a, b) => compare(a, b) > 0,
  '>=': (a, b) => compare(a, b) >= 0,
  in: (a, b) => contains(b, a),
  'not in': (a, b) => !contains(b, a),
};

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
  spend();
  const [left, right] = [numberOf(a), numberOf(b)];
  if (left !== null && right !== null) {
    if (right === 0 && ['/', '//', '%'].includes(operator)) throw new JinjaError('division by zero');
    const result = arithmetic[operator]!(left, right);
    return isFloat(a) || isFloat(b) || operator === '/' || (operator === '**' && right < 0) ? float(result) : result;
  }
  if (operator === '+') {
    if (typeof a === 'string' && typeof b === 'string') return concatenate(a, b);
    if (Array.isArray(a) && Array.isArray(b) && a instanceof Tuple === b instanceof Tuple) {
      spendOn(a, b);
      return like(a, [...a, ...b]);
    }
  }
  if (operator === '%' && typeof a === 'string') return percent(a, b);
  if (operator === '*') {
    const [sequence, times] = left === null ? [a, right] : [b, left];
    if (typeof sequence === 'string' && times !== null) return repeat(sequence, times);
    if (Array.isArray(sequence) && times !== null) {
      spend(sequence.length * Math.max(0, times));
      return like(sequence, Array.from({ length: sequence.length === 0 ? 0 : Math.max(0, times) }, () => sequence).flat());
    }
  }
  throw undefinedIn(a, b) ?? new JinjaError(`'${operator}' does not take '${typeName(a)}' and '${typeName(b)}'`);
}

/** JavaScript shares the longer text, so that a text may grow piece by piece at the cost of the pieces. */
export function concatenate(a: string, b: string): string {
  spendOn(a.length < b.length ? a : b);
  return a + b;
}

const like = (sequence: Value[], items: Value[]): Value[] => (sequence instanceof Tuple ? tupleOf(items) : items);
