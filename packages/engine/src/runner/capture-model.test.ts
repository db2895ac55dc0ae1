import { float32Policy, Llama4ForConditionalGeneration, llama4, loadWeights, openCheckpoint, upstreamContext } from '@graft/core-model';
import { CaptureCache, type CapturedModel, type HostTensor, InterpreterBackend } from '@graft/graph';
import { expect, onTestFinished, test } from 'vitest';
import { caseFolder } from '../engine.fixture.ts';
import { KvCachePlan } from '../kv-cache.ts';
import { captureLanguageModel, captureMultimodalModel, captureVisionModel } from './capture-model.ts';
import type { RunResult, RunStep } from './model-runner.ts';
import { runResult, stepTensors } from './program-step.ts';

async function load() {
  const checkpoint = await openCheckpoint(caseFolder('vision-tiny'));
  onTestFinished(() => checkpoint[Symbol.dispose]());
  const config = llama4.parseConfig(checkpoint.config);
  const model = new Llama4ForConditionalGeneration(upstreamContext('Llama4ForConditionalGeneration', config, { maxModelLength: 32 }));
  await loadWeights(model, checkpoint, { policy: float32Policy, cacheDirectory: null, rules: llama4.weights(config) });
  return { model, vision: config.vision!, hiddenSize: config.hiddenSize };
}

async function runnerOf(model: Llama4ForConditionalGeneration, captured: CapturedModel) {
  const plan = new KvCachePlan(model, 32);
  const program = await new InterpreterBackend().compile(captured, {
    kvSlots: 2,
    bindRuntimeInput: (path, kind) => plan.bindRuntimeInput(path, kind),
  });
  onTestFinished(() => program[Symbol.dispose]());
  return {
    async run(step: RunStep): Promise<RunResult> {
      const { firstSlot, rows } = step;
      return runResult(await program.run({ firstSlot, batch: rows.length, inputs: stepTensors(step, plan.groups) }));
    },
  };
}

test('rows with and without an image share a step and do not affect each other', async () => {
  const { model, hiddenSize } = await load();
  const text = await runnerOf(model, captureLanguageModel(model, new CaptureCache()));
  const mixed = await runnerOf(model, captureMultimodalModel(model, new CaptureCache(), hiddenSize));
  // The features are embeddings of other tokens, so that a prompt with those tokens says what the image should give.
  const table = model.language_model.model.embed_tokens!.weight.toFloat32();
  const row = (token: number): number[] => Array.from(table.subarray(token * hiddenSize, (token + 1) * hiddenSize));
  const imageFeatures: HostTensor = { dtype: 'float32', dims: [2, hiddenSize], data: Float32Array.from([...row(17), ...row(23)]) };
  const words = { tokenIds: [5, 6, 7, 8], computed: 0 };
  const expected = await text.run({ firstSlot: 0, rows: [{ tokenIds: [9, 23, 17, 4], computed: 0 }, words], logits: 'all' });
  const image = { tokenIds: [9, 300, 300, 4], computed: 0, imageRows: [-1, 1, 0, -1] };
  const actual = await mixed.run({ firstSlot: 0, rows: [image, words], logits: 'all', imageFeatures });
  expect(actual.logits).toEqual(expected.logits);
});

test('the graph for text has no image input, and the graph for images is only the tower', async () => {
  const { model, vision, hiddenSize } = await load();
  const namesOf = ({ graph }: CapturedModel) => [graph.inputs, graph.outputs].map((values) => values.map(({ name }) => name));
  const step = ['inputIds', 'positions', 'logitsIndices'];
  expect(namesOf(captureLanguageModel(model, new CaptureCache()))).toEqual([step, ['logits']]);
  expect(namesOf(captureMultimodalModel(model, new CaptureCache(), hiddenSize))).toEqual([
    [...step, 'imageFeatures', 'imageRows'],
    ['logits'],
  ]);
  const tower = captureVisionModel(model, new CaptureCache(), vision);
  expect(namesOf(tower)).toEqual([['pixelValues'], ['imageFeatures']]);
  expect(tower.graph.runtimeInputs).toEqual([]);
  expect(tower.graph.weights.filter(({ path }) => path.startsWith('language_model'))).toEqual([]);
});
