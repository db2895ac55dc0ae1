import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Random } from './random.ts';
import { argmax, logSumExp, Sampler, type SamplerOptions, SamplerScratch } from './sampler.ts';
import { SamplingParams } from './sampling-params.ts';

type Params = Partial<SamplingParams>;

const samplerOf = (params: Params, options: SamplerOptions) => new Sampler(SamplingParams.parse(params), options);

/** Tokens drawn again and again from the same logits. */
function draw(params: Params, logits: readonly number[], count = 1): number[] {
  const sampler = samplerOf({ seed: 1, ...params }, { vocabSize: logits.length });
  const row = Float32Array.from(logits);
  return Array.from({ length: count }, () => sampler.sample(row).tokenId);
}

const softmax = (logits: readonly number[]): number[] => {
  const weights = logits.map((logit) => Math.exp(logit - Math.max(...logits)));
  return weights.map((weight) => weight / weights.reduce((a, b) => a + b));
};

/** Pearson's statistic of the draws against the probabilities; tokens of probability 0 must not occur. */
function chiSquare(tokens: readonly number[], probabilities: readonly number[]): number {
  const counts = probabilities.map(() => 0);
  for (const token of tokens) counts[token]!++;
  return probabilities.reduce((sum, probability, id) => {
    const expected = probability * tokens.length;
    if (probability === 0) return counts[id] === 0 ? sum : Infinity;
    return sum + (counts[id]! - expected) ** 2 / expected;
  }, 0);
}

/** Zero where not kept, and adding up to 1. */
function keepOnly(probabilities: readonly number[], kept: readonly number[]): number[] {
  const mass = kept.reduce((sum, id) => sum + probabilities[id]!, 0);
  return probabilities.map((probability, id) => (kept.includes(id) ? probability / mass : 0));
}

/** Logits of a vocabulary's size, roughly normal. */
function wideRow(seed: number, vocabSize = 49152, spread = 3): Float32Array {
  const random = new Random(seed);
  return Float32Array.from({ length: vocabSize }, () => spread * (random.next() + random.next() + random.next() + random.next() - 2) * 1.7);
}

describe('greedy', () => {
  test('takes the likeliest token, the first of equals', () => {
    expect(draw({ temperature: 0 }, [1, 5, 3, 5])).toEqual([1]);
    expect(draw({ temperature: 0 }, [-Infinity, -7, -Infinity])).toEqual([1]);
  });

  test('argmax equals a plain search, at any length', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: -3, max: 3 }), fc.constant(-Infinity)), { minLength: 1, maxLength: 40 }),
        (logits) => {
          fc.pre(Math.max(...logits) > -Infinity);
          expect(argmax(Float32Array.from(logits))).toBe(logits.indexOf(Math.max(...logits)));
        },
      ),
    );
  });
});

describe('draws follow the probabilities', () => {
  const logits = [1, 0.5, 0, -0.5, -1, -2, 2, -3];
  const probabilities = softmax(logits);
  // Likeliest first: 6 (0.53), 0 (0.20), 1 (0.12), 2 (0.07), 3, 4, 5, 7.
  // Chi-square with 7 degrees of freedom is under 24.3 in 999 of 1000 cases; fewer degrees, less.
  test.each<[string, Params, number[]]>([
    ['temperature 1', {}, probabilities],
    ['temperature 0.5', { temperature: 0.5 }, softmax(logits.map((logit) => logit / 0.5))],
    ['temperature 2', { temperature: 2 }, softmax(logits.map((logit) => logit / 2))],
    ['top-k 3', { topK: 3 }, keepOnly(probabilities, [6, 0, 1])],
    ['top-p 0.8', { topP: 0.8 }, keepOnly(probabilities, [6, 0, 1])],
    ['min-p 0.2', { minP: 0.2 }, keepOnly(probabilities, [6, 0, 1])],
    // Of what top-k left, 6 has 0.73: top-p's whole is what top-k left.
    ['top-k 2 and top-p 0.7', { topK: 2, topP: 0.7 }, keepOnly(probabilities, [6])],
    ['top-k 2 and top-p 0.75', { topK: 2, topP: 0.75 }, keepOnly(probabilities, [6, 0])],
    ['logit bias', { logitBias: { '7': 4, '6': -100 } }, softmax([1, 0.5, 0, -0.5, -1, -2, -98, 1])],
  ])('with %s', (_, params, expected) => {
    for (const seed of [1, 2, 3]) {
      const sure = expected.map((probability) => (probability < 1e-12 ? 0 : probability));
      expect(chiSquare(draw({ ...params, seed }, logits, 5000), sure)).toBeLessThan(24.3);
    }
  });

  test('over a whole vocabulary, where the limits take two passes', () => {
    // Nearly flat: top-p 0.99 reaches far below the first floor of e^-7.
    const row = wideRow(2, 2048, 4);
    const sampler = samplerOf({ topP: 0.99, seed: 3 }, { vocabSize: 2048 });
    const all = softmax([...row]);
    const order = all.map((_, id) => id).sort((a, b) => all[b]! - all[a]!);
    let mass = 0;
    const kept = new Set<number>();
    for (const id of order) {
      if (mass >= 0.99) break;
      kept.add(id);
      mass += all[id]!;
    }
    const draws = 1000;
    let likelyDraws = 0;
    const likely = new Set(order.slice(0, 10));
    for (let i = 0; i < draws; i++) {
      const { tokenId } = sampler.sample(row);
      if (!kept.has(tokenId)) expect.fail(`token ${tokenId} lies outside the nucleus`);
      if (likely.has(tokenId)) likelyDraws++;
    }
    const share = order.slice(0, 10).reduce((sum, id) => sum + all[id]!, 0) / mass;
    // Five standard deviations.
    expect(Math.abs(likelyDraws / draws - share)).toBeLessThan(5 * Math.sqrt((share * (1 - share)) / draws));
  });
});

describe('limits at their edges', () => {
  const logits = [0, 3, 1, 2];
  test.each<[string, Params]>([
    ['top-k 1', { topK: 1 }],
    ['top-p 0', { topP: 0 }],
    ['top-p below the first probability', { topP: 0.3 }],
    ['min-p 1', { minP: 1 }],
    ['a temperature near 0', { temperature: 1e-300 }],
  ])('%s is greedy', (_, params) => {
    expect(new Set(draw(params, logits, 50))).toEqual(new Set([1]));
  });

  test('top-p that the first token reaches exactly keeps one, a little more keeps two', () => {
    const half = [0, 0];
    expect(new Set(draw({ topP: 0.5 }, half, 100))).toEqual(new Set([0]));
    expect(new Set(draw({ topP: 0.51 }, half, 100))).toEqual(new Set([0, 1]));
  });

  test('ties at the edge go to the smaller ids', () => {
    expect(new Set(draw({ topK: 2 }, [1, 1, 1, 1], 100))).toEqual(new Set([0, 1]));
    expect(new Set(draw({ topP: 0.5 }, [1, 1, 1, 1], 100))).toEqual(new Set([0, 1]));
  });

  test('limits wider than the vocabulary change nothing', () => {
    expect(draw({ topK: 100, topP: 1, minP: 0 }, logits, 200)).toEqual(draw({}, logits, 200));
  });

  test('a token of -Infinity is never drawn', () => {
    expect(new Set(draw({ temperature: 5 }, [0, -Infinity, 0], 200))).toEqual(new Set([0, 2]));
    expect(new Set(draw({ topK: 3 }, [0, -Infinity, 0], 200))).toEqual(new Set([0, 2]));
  });

  test('each drawn token is among those that sorting would keep', () => {
    const row = fc.array(
      fc.integer({ min: -40, max: 40 }).map((logit) => logit / 4),
      { minLength: 1, maxLength: 300 },
    );
    const params = fc.record({
      topK: fc.integer({ min: 0, max: 12 }),
      topP: fc.constantFrom(0.1, 0.5, 0.9, 1),
      minP: fc.constantFrom(0, 0.01, 0.3),
      seed: fc.integer(),
    });
    fc.assert(
      fc.property(row, params, (values, limits) => {
        const [tokenId] = draw(limits, values);
        expect(keptBySorting(values, limits)).toContain(tokenId);
      }),
      { numRuns: 400 },
    );
  });
});

/** Min-p, top-k, top-p in turn, by sorting; a hair is added where sums in another order may differ. */
function keptBySorting(logits: readonly number[], { topK, topP, minP }: { topK: number; topP: number; minP: number }): number[] {
  const probabilities = softmax(logits);
  const best = Math.max(...probabilities);
  let kept = probabilities.map((_, id) => id).sort((a, b) => logits[b]! - logits[a]! || a - b);
  kept = kept.filter((id) => probabilities[id]! >= minP * best * (1 - 1e-9));
  if (topK > 0) kept = kept.slice(0, topK);
  const whole = kept.reduce((sum, id) => sum + probabilities[id]!, 0);
  let reached = 0;
  return kept.filter((id) => {
    const wanted = reached <= topP * whole * (1 + 1e-9);
    reached += probabilities[id]!;
    return wanted;
  });
}

describe('seeds', () => {
  const row = [...wideRow(5, 1000, 1)];
  test('the same seed gives the same tokens, another seed others', () => {
    expect(draw({ seed: 9 }, row, 50)).toEqual(draw({ seed: 9 }, row, 50));
    expect(draw({ seed: 9 }, row, 50)).not.toEqual(draw({ seed: 10 }, row, 50));
  });

  test('these are the tokens of seed 42 on every machine', () => {
    // Ten equal logits show the first digit of each number. Expected: the authors' C code, seeded by SplitMix64.
    const random = new Random(42);
    const digits = Array.from({ length: 12 }, () => Math.floor(random.next() * 10));
    expect(draw({ seed: 42 }, new Array(10).fill(0), 12)).toEqual(digits);
    expect(digits).toEqual([4, 0, 6, 6, 8, 7, 8, 1, 5, 6, 2, 3]);
  });

  test('a sequence without a seed draws one, and can be repeated with it', () => {
    const first = samplerOf({}, { vocabSize: 1000 });
    const logits = Float32Array.from(row);
    const tokens = Array.from({ length: 20 }, () => first.sample(logits).tokenId);
    expect(draw({ seed: first.seed }, row, 20)).toEqual(tokens);
  });

  test('sequences that share working memory do not disturb each other', () => {
    const scratch = new SamplerScratch(1000);
    const logits = Float32Array.from(row);
    const samplers = [1, 2].map((seed) => samplerOf({ seed, topP: 0.9, repetitionPenalty: 1.3 }, { vocabSize: 1000, scratch }));
    const tokens = samplers.map((): number[] => []);
    for (let step = 0; step < 30; step++) for (const [i, sampler] of samplers.entries()) tokens[i]!.push(sampler.sample(logits).tokenId);
    expect(tokens).toEqual([1, 2].map((seed) => draw({ seed, topP: 0.9, repetitionPenalty: 1.3 }, row, 30)));
  });
});

describe('penalties', () => {
  test('the presence penalty counts once, the frequency penalty each time', () => {
    expect(draw({ temperature: 0, presencePenalty: 1.5 }, [3, 2, 0], 5)).toEqual([0, 1, 0, 0, 0]);
    expect(draw({ temperature: 0, frequencyPenalty: 0.6 }, [3, 2, 0], 5)).toEqual([0, 0, 1, 0, 1]);
    expect(draw({ temperature: 0, frequencyPenalty: -2 }, [1, 1], 3)).toEqual([0, 0, 0]);
  });

  test('the repetition penalty counts the prompt, and pushes negative logits down', () => {
    const next = (logits: number[], promptIds: number[]) =>
      samplerOf({ temperature: 0, repetitionPenalty: 2 }, { vocabSize: logits.length, promptIds }).sample(Float32Array.from(logits))
        .tokenId;
    expect(next([3, 2], [])).toBe(0);
    expect(next([3, 2], [0])).toBe(1);
    expect(next([-1, -1.5], [0])).toBe(1);
  });

  test('a forced token counts instead of the sampled one', () => {
    const sampler = samplerOf({ temperature: 0, presencePenalty: 2 }, { vocabSize: 2 });
    expect(sampler.sample(Float32Array.of(2, 3), 0).tokenId).toBe(0);
    expect(sampler.sample(Float32Array.of(3, 2)).tokenId).toBe(1);
    expect(sampler.sample(Float32Array.of(3, 2)).tokenId).toBe(0);
  });

  test('the logits themselves stay as they are', () => {
    const logits = Float32Array.of(3, 2, 1);
    const sampler = samplerOf(
      { repetitionPenalty: 2, frequencyPenalty: 1, logitBias: { '1': 5 }, topP: 0.5 },
      { vocabSize: 3, promptIds: [0] },
    );
    for (let i = 0; i < 5; i++) sampler.sample(logits);
    expect([...logits]).toEqual([3, 2, 1]);
  });
});

describe('log-probabilities', () => {
  const logits = [1, 4, 2, 4, -Infinity];

  test('are those of the model, whatever the temperature, bias and penalties', () => {
    const sampler = samplerOf({ temperature: 0.3, topK: 1, logprobs: 3, logitBias: { '0': 90 } }, { vocabSize: 5 });
    const { tokenId, logprob, top } = sampler.sample(Float32Array.from(logits));
    const expected = softmax(logits).map(Math.log);
    expect(tokenId).toBe(0);
    expect(logprob).toBeCloseTo(expected[0]!, 10);
    expect(top.map((entry) => entry.tokenId)).toEqual([1, 3, 2]);
    for (const entry of top) expect(entry.logprob).toBeCloseTo(expected[entry.tokenId]!, 10);
  });

  test('are not computed unless asked for; 0 asks for the chosen token alone', () => {
    const sample = (params: Params) => samplerOf({ temperature: 0, ...params }, { vocabSize: 5 }).sample(Float32Array.from(logits));
    expect(sample({})).toEqual({ tokenId: 1, logprob: null, top: [] });
    expect(sample({ logprobs: 0 })).toEqual({ tokenId: 1, logprob: expect.closeTo(Math.log(softmax(logits)[1]!), 10), top: [] });
  });

  test('leave out tokens that are impossible', () => {
    const { top } = samplerOf({ temperature: 0, logprobs: 20 }, { vocabSize: 5 }).sample(Float32Array.from(logits));
    expect(top).toHaveLength(4);
  });

  test('do not overflow on large logits', () => {
    expect(logSumExp(Float32Array.of(1e30, 1e30))).toBeCloseTo(Math.fround(1e30), -25);
    expect(logSumExp(Float32Array.of(-1000, -1000))).toBeCloseTo(-1000 + Math.LN2, 10);
  });

  test('the top tokens equal those of sorting', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 50 }),
        fc.integer({ min: 1, max: 20 }),
        (values, count) => {
          const { top } = samplerOf({ temperature: 0, logprobs: count }, { vocabSize: values.length }).sample(Float32Array.from(values));
          const order = values.map((_, id) => id).sort((a, b) => values[b]! - values[a]! || a - b);
          expect(top.map((entry) => entry.tokenId)).toEqual(order.slice(0, count));
        },
      ),
    );
  });
});

describe('logits from which no token can be chosen', () => {
  test.each([
    [[0, Number.NaN, 1], /token 1 is NaN/],
    [[Number.NaN, 0, 0], /token 0 is NaN/],
    [[0, 5, Number.NaN], /token 2 is NaN/],
    [[0, Infinity, 0], /token 1 is \+Infinity/],
    [[-Infinity, -Infinity, -Infinity], /Every logit/],
    [[0, 1], /2 logits for a vocabulary of 3/],
  ])('%j are an error', (logits, message) => {
    for (const params of [{ temperature: 0 }, {}, { topK: 2 }, { topP: 0.5, logprobs: 1 }, { repetitionPenalty: 1.1 }]) {
      const sampler = samplerOf(params, { vocabSize: 3, promptIds: [0] });
      const sample = () => sampler.sample(Float32Array.from(logits));
      expect(sample).toThrow(expect.objectContaining({ code: 'GRAFT_LOGITS_INVALID' }));
      expect(sample).toThrow(message);
    }
  });

  test('NaN is found at any place of a long row', () => {
    for (const place of [0, 7, 8, 991, 999]) {
      const row = wideRow(6, 1000);
      row[place] = Number.NaN;
      expect(() => argmax(row)).toThrow(`The logit of token ${place} is NaN.`);
    }
  });
});

test('a bias for an unknown token is refused', () => {
  expect(() => samplerOf({ logitBias: { '3': 1 } }, { vocabSize: 3 })).toThrow(expect.objectContaining({ code: 'GRAFT_LOGIT_BIAS_TOKEN' }));
});
