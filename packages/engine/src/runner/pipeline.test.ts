import {
  float32Policy,
  keysOfOtherRanks,
  Llama4ForCausalLM,
  Llama4ForConditionalGeneration,
  loadWeights,
  type ModelContext,
  openCheckpoint,
  parseLlama4Config,
  parseLlama4VisionConfig,
} from '@graft/core-model';
import { CaptureCache, InterpreterBackend } from '@graft/graph';
import { expect, onTestFinished, test } from 'vitest';
import { caseFolder } from '../engine.fixture.ts';
import { captureLanguageModel } from './capture-language-model.ts';
import { capturePipelineStage, PipelineRunner } from './pipeline.ts';

async function open(name: string) {
  const checkpoint = await openCheckpoint(caseFolder(name));
  onTestFinished(() => checkpoint.close());
  const config = parseLlama4Config(checkpoint.config);
  const facts = { architectures: config.architectures, config, platform: 'any', mode: 'any', maxModelLength: 32 };
  const vision = parseLlama4VisionConfig(checkpoint.config);
  const contextOf = (rank: number, size: number): ModelContext => ({ ...facts, vision, pipeline: { rank, size } });
  return { checkpoint, contextOf };
}

test('a rank that is not the last gives hidden states and residual, one that is not the first takes them; the last alone reads logitsIndices', async () => {
  const { contextOf } = await open('dense-tiny');
  const namesOf = (rank: number, size: number) => {
    const context = contextOf(rank, size);
    const model = new Llama4ForCausalLM(context);
    model.setAuxHiddenStateLayers([0, 1]);
    const { graph } = capturePipelineStage({ model, context }, new CaptureCache());
    return [graph.inputs, graph.outputs].map((values) => values.map(({ name }) => name));
  };
  const handed = ['hidden_states', 'residual'];
  expect(namesOf(0, 2)).toEqual([
    ['inputIds', 'positions'],
    [...handed, 'auxHiddenStates.0', 'auxHiddenStates.1'],
  ]);
  expect(namesOf(1, 2)).toEqual([['inputIds', 'positions', 'logitsIndices', ...handed], ['logits']]);
});

test('one rank of one is the whole model: its graph is that of captureLanguageModel', async () => {
  const { contextOf } = await open('scout-tiny');
  const context = contextOf(0, 1);
  const model = new Llama4ForCausalLM(context);
  model.setAuxHiddenStateLayers([0, 3, 8]);
  const stage = capturePipelineStage({ model, context }, new CaptureCache());
  const whole = captureLanguageModel(model, new CaptureCache());
  expect(whole.graph.outputs).toHaveLength(4);
  expect(stage.graph).toEqual(whole.graph);
});

test('each rank loads its own parameters of a checkpoint and no others, and the first alone those for images', async () => {
  const { checkpoint, contextOf } = await open('vision-tiny');
  const load = async (rank: number, size: number) => {
    const context = contextOf(rank, size);
    const model = new Llama4ForConditionalGeneration(context);
    await loadWeights(model, checkpoint, { policy: float32Policy, cacheDirectory: null, ignoreKeys: keysOfOtherRanks(context) });
    return new Map([...model.namedParameters()].map(([name, parameter]) => [name, parameter.toFloat32()]));
  };
  const whole = await load(0, 1);
  const [first, last] = [await load(0, 2), await load(1, 2)];
  expect(new Map([...first, ...last])).toEqual(whole);
  expect(first.size + last.size).toBe(whole.size);
  expect([first, last].map((rank) => [...rank.keys()].some((name) => name.startsWith('vision_model.')))).toEqual([true, false]);
});

test('a key that no rank has a use for is still refused', async () => {
  const { contextOf } = await open('dense-tiny');
  const count = contextOf(0, 1).config.numHiddenLayers;
  const ignores = keysOfOtherRanks(contextOf(0, 2));
  const keys = [
    `model.layers.${count - 1}.x`,
    `blk.${count - 1}.x`,
    'lm_head.weight',
    'output_norm.weight',
    `model.layers.${count}.x`,
    'other',
  ];
  expect(keys.map(ignores)).toEqual([true, true, true, true, false, false]);
  expect(['model.layers.0.x', 'model.embed_tokens.weight'].map(ignores)).toEqual([false, false]);
  const embedding = ['model.embed_tokens.weight', 'token_embd.weight'];
  expect(embedding.map(keysOfOtherRanks(contextOf(1, 2)))).toEqual([false, false]); // tied: the last rank's logits are made with it
  expect(embedding.map(keysOfOtherRanks(contextOf(1, 3)))).toEqual([true, true]);
  expect([...keys, 'model.embed_tokens.weight'].some(keysOfOtherRanks(contextOf(0, 1)))).toBe(false);
});

test('ranks out of order, or not all of them, are refused by name', async () => {
  const { contextOf } = await open('dense-tiny');
  const rank = (context: ModelContext) => ({ model: new Llama4ForCausalLM(context), context });
  const refused = (...ranks: ReturnType<typeof rank>[]) => PipelineRunner.open(ranks, new InterpreterBackend(), { kvSlots: 1 });
  await expect(refused(rank(contextOf(1, 2)), rank(contextOf(0, 2)))).rejects.toThrow('given are 1 of 2, 0 of 2');
  await expect(refused(rank(contextOf(0, 2)))).rejects.toThrow('given are 0 of 2');
  await expect(refused()).rejects.toThrow('given are none');
});

test('a model that was built as another rank is refused when it is captured', async () => {
  const { contextOf } = await open('dense-tiny');
  const model = new Llama4ForCausalLM(contextOf(0, 1));
  expect(() => capturePipelineStage({ model, context: contextOf(0, 2) }, new CaptureCache())).toThrow(
    'Rank 0 of 2 gave hidden states alone: it was built as the last one.',
  );
});
