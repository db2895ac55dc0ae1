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
import { caseFolder, expectAlike, runVariants, textCases } from '../run-variants.fixture.ts';
import { HpuLlama4ForCausalLM, HpuLlama4ForConditionalGeneration, HpuLlama4Model } from './llama4.ts';

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
  test('the zero residual saves the graph of the first layer', () => {
    expect(layerGraphs(new Llama4ForCausalLM(context(name))).count).toBe(upstreamGraphs);
    expect(layerGraphs(new HpuLlama4ForCausalLM(context(name))).count).toBe(upstreamGraphs - 1);
  });

  test('upstream recompiles because of residual, and the override never does', () => {
    const upstream = layerGraphs(new Llama4ForCausalLM(context(name)));
    expect(upstream.failed[0]).toEqual(['residual']);
    expect(layerGraphs(new HpuLlama4ForCausalLM(context(name))).failed.flat()).not.toContain('residual');
  });

  test.each([
    ['text', Llama4ForCausalLM, HpuLlama4ForCausalLM],
    ['with images', Llama4ForConditionalGeneration, HpuLlama4ForConditionalGeneration],
  ])("the parameters (%s) keep upstream's names, shapes and order", (_kind, Upstream, Override) => {
    const facts = (model: LanguageModel) => [...model.namedParameters()].map(([path, { shape }]) => `${path} [${shape.join(', ')}]`);
    const upstream = facts(new Upstream(context(name)));
    expect(upstream.length).toBeGreaterThan(40);
    expect(facts(new Override(context(name)))).toEqual(upstream);
  });
});

const emulated = new URL('../interpreter-hpu.fixture.ts', import.meta.url).href;

test.each(textCases)(
  'L5 %s: upstream, upstream-equivalent and default give equal logits, residual streams and greedy ids on the interpreter, prompts in pieces and batch 1 x sequence 1 included',
  { timeout: 60_000 },
  async (name) => expectAlike(await runVariants(name, emulated)),
);

test('the multimodal override builds its language model from the text override', () => {
  const { language_model } = new HpuLlama4ForConditionalGeneration(context('scout-tiny'));
  expect(language_model).toBeInstanceOf(HpuLlama4ForCausalLM);
  expect(language_model.model).toBeInstanceOf(HpuLlama4Model);
});
