import { readFileSync } from 'node:fs';
import {
  type LanguageModel,
  type Llama4Config,
  Llama4ForCausalLM,
  Llama4ForConditionalGeneration,
  llama4,
  type ModelContext,
  upstreamContext,
} from '@graft/core-model';
import { captureLanguageModel } from '@graft/engine';
import { CaptureCache } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import { build, type Llama4 } from '../layer-graphs.fixture.ts';
import { caseFolder, expectAlike, runVariants, textCases } from '../run-variants.fixture.ts';
import { HpuLlama4ForCausalLM, HpuLlama4ForConditionalGeneration, HpuLlama4Model } from './llama4.ts';

const onHpu = async (name: string, architecture = 'Llama4ForCausalLM'): Promise<Llama4> => (await build(architecture, context(name))).model;

function context(name: string): ModelContext<Llama4Config> {
  const config = llama4.parseConfig(JSON.parse(readFileSync(`${caseFolder(name)}/config.json`, 'utf8')));
  return upstreamContext('Llama4ForCausalLM', config, { platform: 'hpu', mode: 'compile', maxModelLength: 64 });
}

/** Graphs of the decoder layers, and for each recompile the inputs and paths of the guards that failed. */
function layerGraphs(model: LanguageModel): { count: number; failed: string[][] } {
  const cache = new CaptureCache();
  captureLanguageModel(model, cache);
  return { count: cache.count('decoder-layer'), failed: cache.recompiles.map(({ failures }) => failures.map(({ path }) => path)) };
}

describe.each([
  ['scout-tiny', 3],
  ['maverick-tiny', 4],
])('on %s', (name, upstreamGraphs) => {
  // The counts are those of architecture.md's table: what PyTorch's Dynamo compiles for 48 layers of these kinds.
  test('the zero residual saves the graph of the first layer', async () => {
    expect(layerGraphs(new Llama4ForCausalLM(context(name))).count).toBe(upstreamGraphs);
    expect(layerGraphs(await onHpu(name)).count).toBe(upstreamGraphs - 1);
  });

  test('upstream recompiles because of residual, and the override never does', async () => {
    const upstream = layerGraphs(new Llama4ForCausalLM(context(name)));
    expect(upstream.failed[0]).toEqual(['residual']);
    expect(layerGraphs(await onHpu(name)).failed.flat()).not.toContain('residual');
  });

  test.each([
    ['Llama4ForCausalLM', Llama4ForCausalLM],
    ['Llama4ForConditionalGeneration', Llama4ForConditionalGeneration],
  ])("the parameters of %s keep upstream's names, shapes and order", async (architecture, Upstream) => {
    const facts = (model: LanguageModel) => [...model.namedParameters()].map(([path, { shape }]) => `${path} [${shape.join(', ')}]`);
    const upstream = facts(new Upstream(context(name)));
    expect(upstream.length).toBeGreaterThan(40);
    expect(facts(await onHpu(name, architecture))).toEqual(upstream);
  });
});

const emulated = new URL('../interpreter-hpu.fixture.ts', import.meta.url).href;

test.each(textCases)(
  '%s: upstream, upstream-equivalent and default give equal logits, residual streams and greedy ids on the interpreter, prompts in pieces and batch 1 x sequence 1 included',
  { timeout: 60_000 },
  async (name) => expectAlike(await runVariants(name, emulated)),
);

test('the language model of a model with images is the text override, and its decoder has the zeros', async () => {
  const model = await onHpu('scout-tiny', 'Llama4ForConditionalGeneration');
  expect(model).toBeInstanceOf(HpuLlama4ForConditionalGeneration);
  const { language_model } = model as HpuLlama4ForConditionalGeneration;
  expect(language_model).toBeInstanceOf(HpuLlama4ForCausalLM);
  expect(language_model.model).toBeInstanceOf(HpuLlama4Model);
});
