import { graftError } from '@graft/common';
import { callPlugin } from './call-plugin.ts';
import { apiLogitsProcessors, type LogitsProcessor, type SequenceProcessor } from './logits-processors.ts';
import { Random, randomSeed } from './random.ts';
import type { SamplingParams } from './sampling-params.ts';
import { selectTop } from './select-top.ts';

export interface SampledToken {
  tokenId: number;
  /** Of the chosen token: the natural logarithm of the model's probability, before temperature, penalties and bias. Null unless `logprobs` was requested. */
  logprob: number | null;
  /** The `logprobs` likeliest tokens, likeliest first, chosen or not; tokens of probability 0 are left out. */
  top: { tokenId: number; logprob: number }[];
}

/** No token can be chosen from the logits. */
export class LogitsInvalidError extends graftError('GRAFT_LOGITS_INVALID', (what: string) => ({
  what,
  where: 'the logits of one sequence, in the sampler',
  fix: 'the weights are damaged or a computation overflowed: check the checkpoint, and compare with the upstream model by `graft verify`.',
})) {}

/** A plugin's logits processor failed. Its request ends with this error. */
export class LogitsProcessorError extends graftError('GRAFT_LOGITS_PROCESSOR', (name: string, what: string, cause?: unknown) => ({
  what: `Logits processor "${name}" failed: ${what}`,
  where: `LogitsProcessors, "${name}"`,
  fix: 'correct the processor. Its start(), apply() and take() must be synchronous; graft explain --services names the plugin.',
  cause,
})) {}

/** Working memory for sampling from one vocabulary. Samplers that never run at the same time can share it. */
export class SamplerScratch {
  readonly row: Float32Array;
  readonly ids: Int32Array;
  readonly weights: Float64Array;

  constructor(vocabSize: number) {
    this.row = new Float32Array(vocabSize);
    this.ids = new Int32Array(vocabSize);
    this.weights = new Float64Array(vocabSize);
  }
}

export interface SamplerOptions {
  /** Width of the logits. */
  vocabSize: number;
  /** For the processors: the repetition penalty includes the prompt. */
  promptIds?: readonly number[];
  /** Default: `apiLogitsProcessors`. */
  processors?: readonly LogitsProcessor[];
  /** Shared by the sequences of an engine; for `vocabSize` tokens. */
  scratch?: SamplerScratch;
}

// Logarithms, relative to the likeliest token. All tokens below this one together weigh less than the random numbers resolve.
const negligible = -50;
// Most sets of top-p lie above this; otherwise a second pass takes all.
const likely = -7;

/**
 * Chooses the tokens of one sequence. The order is: logits processors, temperature, min-p, top-k, top-p (for top-p, the probabilities that top-k left add up to 1).
 * Each sequence has its random numbers and processor states, so the rest of the batch changes nothing.
 */
export class Sampler {
  /** Requested or random. The same seed and logits give the same tokens. */
  readonly seed: number;
  private readonly params: SamplingParams;
  private readonly vocabSize: number;
  private readonly scratch: SamplerScratch;
  private readonly random: Random;
  private readonly processors: readonly (SequenceProcessor & { readonly name: string })[];
  private readonly inverseTemperature: number;
  /** Set by `gather`. */
  private massBelow = 0;

  /** @throws LogitBiasTokenError, and the errors of processors. */
  constructor(params: SamplingParams, { vocabSize, promptIds = [], processors = apiLogitsProcessors, scratch }: SamplerOptions) {
    this.params = params;
    this.vocabSize = vocabSize;
    this.scratch = scratch ?? new SamplerScratch(vocabSize);
    this.seed = params.seed ?? randomSeed();
    this.random = new Random(this.seed);
    this.processors = processors.flatMap((processor) => {
      const { name } = processor;
      const started = callProcessor(name, 'start', () => processor.start({ sampling: params, promptIds, vocabSize }));
      if (started === null) return [];
      if (typeof started?.apply !== 'function') throw new LogitsProcessorError(name, 'start() must return null or an object with apply().');
      return { name, apply: (row) => started.apply(row), take: (tokenId) => started.take?.(tokenId) };
    });
    // Capped, since 0 times infinity would be NaN.
    this.inverseTemperature = Math.min(1 / params.temperature, Number.MAX_VALUE);
  }

  /**
   * Chooses the next token of the sequence, and passes it to the processors.
   * @param logits `[vocabSize]`; not modified.
   * @param forced taken instead of a random token.
   * @throws LogitsInvalidError if a logit is NaN or +Infinity, if all are -Infinity, or if their number is not `vocabSize`.
   */
  sample(logits: Float32Array, forced?: number): SampledToken {
    if (logits.length !== this.vocabSize)
      throw new LogitsInvalidError(`The row has ${logits.length} logits for a vocabulary of ${this.vocabSize}.`);
    const tokenId = forced ?? this.choose(this.adjusted(logits));
    const sampled = this.report(logits, tokenId);
    for (const { name, take } of this.processors) callProcessor(name, 'take', () => take?.(tokenId));
    return sampled;
  }

  private choose(row: Float32Array): number {
    const best = argmax(row);
    return this.params.temperature === 0 || this.params.topK === 1 ? best : this.draw(row, row[best]!);
  }

  /** The logits after the processors; the row itself without processors. */
  private adjusted(logits: Float32Array): Float32Array {
    if (this.processors.length === 0) return logits;
    const { row } = this.scratch;
    row.set(logits);
    for (const { name, apply } of this.processors) callProcessor(name, 'apply', () => apply(row));
    return row;
  }

  private draw(row: Float32Array, max: number): number {
    const { topK, topP, minP } = this.params;
    const { ids, weights } = this.scratch;
    const floor = Math.max(negligible, Math.log(minP));
    const tight = Math.max(floor, this.firstFloor(row, max));
    let count = this.gather(row, max, tight, floor);
    // Top-p takes its share of what min-p or top-k left.
    const whole = sum(weights, count) + this.massBelow;
    const enough = topK > 0 ? count >= topK : sum(weights, count) >= topP * whole;
    if (tight > floor && !enough) count = this.gather(row, max, floor, floor);
    if (topK > 0 && topK < count) count = selectTop(ids, weights, count, topK, Number.POSITIVE_INFINITY);
    if (topP < 1) count = selectTop(ids, weights, count, count, topP * (topK > 0 ? sum(weights, count) : whole));
    return pick(ids, weights, count, this.random.next());
  }

  /** A floor above which top-k or top-p probably finds all the tokens that it keeps, and few others. */
  private firstFloor(row: Float32Array, max: number): number {
    const { topK, topP } = this.params;
    if (topK > 0) return (lowerBoundOfTop(row, topK, this.scratch) - max) * this.inverseTemperature;
    return topP < 1 ? likely : negligible;
  }

  /**
   * Fills the scratch with the tokens at or above `floor` and their weights, which are proportional to probabilities.
   * Sets `massBelow` to the total weight of the rest, down to `massFloor`.
   * @returns the number of tokens.
   */
  private gather(row: Float32Array, max: number, floor: number, massFloor: number): number {
    const { ids, weights } = this.scratch;
    const { inverseTemperature } = this;
    const wantsMass = this.params.topK === 0;
    let count = 0;
    let massBelow = 0;
    for (let id = 0; id < row.length; id++) {
      const exponent = (row[id]! - max) * inverseTemperature;
      if (exponent >= floor) {
        ids[count] = id;
        weights[count++] = exponential(exponent);
      } else if (wantsMass && exponent >= massFloor) {
        massBelow += exponential(exponent);
      }
    }
    this.massBelow = massBelow;
    return count;
  }

  private report(logits: Float32Array, tokenId: number): SampledToken {
    const { logprobs } = this.params;
    if (logprobs === undefined) return { tokenId, logprob: null, top: [] };
    const normalizer = logSumExp(logits);
    const top = topOf(logits, logprobs).map((id) => ({ tokenId: id, logprob: logits[id]! - normalizer }));
    return { tokenId, logprob: logits[tokenId]! - normalizer, top };
  }
}

function callProcessor<T>(name: string, method: string, call: () => T): T {
  return callPlugin(call, (what, cause) => new LogitsProcessorError(name, `${method}() ${what}.`, cause));
}

/**
 * The index of the largest logit, the first of equals.
 * @throws LogitsInvalidError when one is NaN or +Infinity, or all are -Infinity.
 */
export function argmax(logits: Float32Array): number {
  let best = Number.NEGATIVE_INFINITY;
  let place = -1;
  for (let start = 0; start < logits.length; start += 8) {
    // NaN and reads past the end compare false with everything, so they get the closer look too.
    if (noneAbove(logits, start, best)) continue;
    const end = Math.min(start + 8, logits.length);
    for (let id = start; id < end; id++) {
      const logit = logits[id]!;
      if (logit <= best) continue;
      if (Number.isNaN(logit)) throw new LogitsInvalidError(`The logit of token ${id} is NaN.`);
      best = logit;
      place = id;
    }
  }
  if (place === -1) throw new LogitsInvalidError('Every logit is -Infinity: no token is possible.');
  if (best === Number.POSITIVE_INFINITY) throw new LogitsInvalidError(`The logit of token ${place} is +Infinity.`);
  return place;
}

/** Whether all eight logits from `start` on are at most `bound`. Unrolled: a loop takes twice the time. */
function noneAbove(logits: Float32Array, start: number, bound: number): boolean {
  return (
    logits[start]! <= bound &&
    logits[start + 1]! <= bound &&
    logits[start + 2]! <= bound &&
    logits[start + 3]! <= bound &&
    logits[start + 4]! <= bound &&
    logits[start + 5]! <= bound &&
    logits[start + 6]! <= bound &&
    logits[start + 7]! <= bound
  );
}

/**
 * A logit that at least `count` logits reach, close to the largest such one: the smallest of the `count` largest maxima of short stretches.
 * -Infinity where the stretches would be too short to save time.
 */
function lowerBoundOfTop(logits: Float32Array, count: number, { ids, weights }: SamplerScratch): number {
  const stretch = Math.min(64, Math.floor(logits.length / (2 * count)));
  if (stretch < 4) return Number.NEGATIVE_INFINITY;
  let stretches = 0;
  for (let start = 0; start < logits.length; start += stretch) {
    const end = Math.min(start + stretch, logits.length);
    let max = Number.NEGATIVE_INFINITY;
    for (let id = start; id < end; id++) if (logits[id]! > max) max = logits[id]!;
    ids[stretches] = stretches;
    weights[stretches++] = max;
  }
  selectTop(ids, weights, stretches, count, Number.POSITIVE_INFINITY);
  return weights.subarray(0, count).reduce((least, max) => Math.min(least, max), Number.POSITIVE_INFINITY);
}

/** `log(sum(exp(logits)))` without overflow; a log-probability is a logit minus this. */
export function logSumExp(logits: Float32Array): number {
  const max = logits[argmax(logits)]!;
  let mass = 0;
  for (let id = 0; id < logits.length; id++) mass += exponential(logits[id]! - max);
  return max + Math.log(mass);
}

/** The `count` largest, largest first, the first of equals first; fewer if the others are -Infinity. For a small `count`. */
function topOf(logits: Float32Array, count: number): number[] {
  const top: number[] = [];
  if (count === 0) return top;
  let least = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (logit <= least) continue;
    if (top.length === count) top.pop();
    let place = top.length;
    while (place > 0 && logits[top[place - 1]!]! < logit) place--;
    top.splice(place, 0, id);
    if (top.length === count) least = logits[top[count - 1]!]!;
  }
  return top;
}

function pick(ids: Int32Array, weights: Float64Array, count: number, random: number): number {
  let rest = random * sum(weights, count);
  for (let i = 0; i < count - 1; i++) {
    rest -= weights[i]!;
    if (rest < 0) return ids[i]!;
  }
  return ids[count - 1]!;
}

function sum(weights: Float64Array, count: number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += weights[i]!;
  return total;
}

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
