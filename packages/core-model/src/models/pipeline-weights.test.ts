import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import {
  float32Policy,
  keysOfOtherRanks,
  Llama4ForConditionalGeneration,
  llama4,
  loadWeights,
  openCheckpoint,
  upstreamContext,
} from '../index.ts';

async function open(name: string) {
  const checkpoint = await openCheckpoint(fileURLToPath(new URL(`../../../../tests/parity/cases/${name}`, import.meta.url)));
  onTestFinished(() => checkpoint[Symbol.dispose]());
  const config = llama4.parseConfig(checkpoint.config);
  const contextOf = (rank: number, size: number) => upstreamContext('any', config, { maxModelLength: 32, pipeline: { rank, size } });
  return { checkpoint, contextOf, rules: llama4.weights(config) };
}

test('each rank loads its own parameters of a checkpoint and no others, and the first alone those for images', async () => {
  const { checkpoint, contextOf, rules } = await open('vision-tiny');
  const load = async (rank: number, size: number) => {
    const context = contextOf(rank, size);
    const model = new Llama4ForConditionalGeneration(context);
    await loadWeights(model, checkpoint, {
      policy: float32Policy,
      cacheDirectory: null,
      rules,
      ignoreKeys: keysOfOtherRanks(context, rules),
    });
    return new Map([...model.namedParameters()].map(([name, parameter]) => [name, parameter.toFloat32()]));
  };
  const whole = await load(0, 1);
  const [first, last] = [await load(0, 2), await load(1, 2)];
  expect(new Map([...first, ...last])).toEqual(whole);
  expect(first.size + last.size).toBe(whole.size);
  expect([first, last].map((rank) => [...rank.keys()].some((name) => name.startsWith('vision_model.')))).toEqual([true, false]);
});

test('a key that no rank has a use for is still refused', async () => {
  const { contextOf, rules } = await open('dense-tiny');
  const count = contextOf(0, 1).config.numHiddenLayers;
  const ignores = keysOfOtherRanks(contextOf(0, 2), rules);
  const keys = [`model.layers.${count - 1}.x`, 'lm_head.weight', 'model.norm.weight', `model.layers.${count}.x`, 'other'];
  expect(keys.map(ignores)).toEqual([true, true, true, false, false]);
  expect(['model.layers.0.x', 'model.embed_tokens.weight'].map(ignores)).toEqual([false, false]);
  const embedding = ['model.embed_tokens.weight'];
  expect(embedding.map(keysOfOtherRanks(contextOf(1, 2), rules))).toEqual([false]); // tied: the last rank's logits are made with it
  expect(embedding.map(keysOfOtherRanks(contextOf(1, 3), rules))).toEqual([true]);
  expect([...keys, 'model.embed_tokens.weight'].some(keysOfOtherRanks(contextOf(0, 1), rules))).toBe(false);
});
