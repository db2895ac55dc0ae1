import { expect, test } from 'vitest';
import { SamplingParams } from './sampling-params.ts';

test('samples from the whole distribution by default', () => {
  expect(SamplingParams.parse({})).toEqual({
    temperature: 1,
    topK: 0,
    topP: 1,
    minP: 0,
    stop: [],
    stopTokenIds: [],
    ignoreEos: false,
    frequencyPenalty: 0,
    presencePenalty: 0,
    repetitionPenalty: 1,
    logitBias: {},
  });
});

test.each([
  [{ temperature: -0.1 }, 'temperature'],
  [{ temperature: Number.NaN }, 'temperature'],
  [{ topP: 1.01 }, 'topP'],
  [{ topK: -1 }, 'topK'],
  [{ minP: 2 }, 'minP'],
  [{ seed: 0.5 }, 'seed'],
  [{ maxTokens: 0 }, 'maxTokens'],
  [{ stop: ['ok', ''] }, 'stop'],
  [{ stop: ['\ud83d'] }, 'stop'],
  [{ stopTokenIds: [-1] }, 'stopTokenIds'],
  [{ frequencyPenalty: 3 }, 'frequencyPenalty'],
  [{ repetitionPenalty: 0 }, 'repetitionPenalty'],
  [{ logitBias: { hello: 1 } }, 'logitBias'],
  [{ logitBias: { '5': 101 } }, 'logitBias'],
  [{ logprobs: 21 }, 'logprobs'],
])('refuses %j', (params, key) => {
  const result = SamplingParams.safeParse(params);
  expect(result.error?.issues[0]?.path[0]).toBe(key);
});

test('refuses a key that it does not know', () => {
  expect(SamplingParams.safeParse({ top_k: 1 }).success).toBe(false);
});
