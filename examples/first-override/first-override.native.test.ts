import { expect, test } from 'vitest';
import { continuePrompt, largestDifference } from './continue-prompt.fixture.ts';
import { softCap } from './plugin.ts';

test('on ONNX Runtime, with the plugins that package.json lists, logits are those of upstream, capped', async () => {
  const upstream = await continuePrompt(['@graft/cpu']);
  const override = await continuePrompt();
  expect([upstream.info.modelClass, override.info.modelClass]).toEqual(['Llama4ForCausalLM', 'FirstOverride']);
  const expected = upstream.logits.map((logit) => softCap * Math.tanh(logit / softCap));
  expect(largestDifference(override.logits, expected)).toBeLessThan(1e-4);
  expect(override.tokenIds).toEqual(upstream.tokenIds);
});
