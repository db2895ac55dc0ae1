/** The largest absolute difference. NaN on either side, or another length, counts as infinite: it must never pass for agreement. */
export function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    if (!(difference <= largest)) largest = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : difference;
  }
  return largest;
}

/** `largestDifference`, relative to the largest expected value. */
export function relativeDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let unit = Number.MIN_VALUE;
  for (let i = 0; i < expected.length; i++) unit = Math.max(unit, Math.abs(expected[i]!));
  return largestDifference(actual, expected) / unit;
}

/** Index of the largest value; the first of equals. */
export function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** By how much the largest value leads the second. */
export function margin(values: ArrayLike<number>): number {
  const best = argmax(values);
  let second = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) if (i !== best && values[i]! > second) second = values[i]!;
  return values[best]! - second;
}

/** `log softmax(logits)[index]`. */
export function logProbability(logits: Float32Array, index: number): number {
  const max = logits[argmax(logits)]!;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - max);
  return logits[index]! - max - Math.log(sum);
}

/** Root-mean-square norm of each row of `x [rows, weight.length]`. */
export function rmsNormRows(x: Float32Array, weight: Float32Array, epsilon: number): Float32Array {
  const width = weight.length;
  const result = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += width) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += x[row + i]! ** 2;
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) result[row + i] = x[row + i]! * scale * weight[i]!;
  }
  return result;
}

export const scientific = (value: number): string => (value === 0 ? '0' : value.toExponential(1));
