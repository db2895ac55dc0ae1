import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type LanguageModel,
  Llama4ForCausalLM,
  Llama4ForConditionalGeneration,
  type ModelContext,
  parseLlama4Config,
} from '@graft/core-model';
import { captureLanguageModel, LlmEngine } from '@graft/engine';
import { CaptureCache } from '@graft/graph';
import { afterAll, describe, expect, test } from 'vitest';
import { HpuLlama4ForCausalLM, HpuLlama4ForConditionalGeneration, HpuLlama4Model } from './llama4.ts';

const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-hpu-'));
afterAll(() => rmSync(cacheDirectory, { recursive: true }));

const caseFolder = (name: string): string => fileURLToPath(new URL(`../../../../tests/parity/cases/${name}`, import.meta.url));

function context(name: string): ModelContext {
  const config = parseLlama4Config(JSON.parse(readFileSync(`${caseFolder(name)}/config.json`, 'utf8')));
  return {
    architectures: config.architectures,
    config,
    platform: 'hpu',
    mode: 'compile',
    maxModelLength: 64,
    pipeline: { rank: 0, size: 1 },
  };
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

  test('logits and residual streams are those of upstream, prompts in pieces and decoding included', { timeout: 60_000 }, async () => {
    const [plain, hpu] = await Promise.all([runCase(name, 'plain'), runCase(name, 'hpu')]);
    expect([plain.modelClass, hpu.modelClass]).toEqual(['Llama4ForCausalLM', 'HpuLlama4ForCausalLM']);
    expect(hpu.values.length).toBe(plain.values.length);
    expect(plain.values.length).toBeGreaterThan(20 * 320 + 20 * 9 * 32);
    expect(largestDifference(hpu.values, plain.values)).toBeLessThanOrEqual(1e-6);
  });
});

test('the multimodal override builds its language model from the text override', () => {
  const { language_model } = new HpuLlama4ForConditionalGeneration(context('scout-tiny'));
  expect(language_model).toBeInstanceOf(HpuLlama4ForCausalLM);
  expect(language_model.model).toBeInstanceOf(HpuLlama4Model);
});

/** 20 tokens of prompt in pieces of 7, over the chunk's boundary at 16, then 6 forced ones: every logit and every layer's residual stream, in order. */
async function runCase(name: string, platform: string): Promise<{ modelClass: string; values: number[] }> {
  const layers = context(name).config.numHiddenLayers;
  const engine = await LlmEngine.start({
    model: caseFolder(name),
    plugins: [new URL('../interpreter-hpu.fixture.ts', import.meta.url).href],
    platform,
    maxModelLength: 32,
    prefillTokens: 7,
    cacheDirectory,
    auxHiddenStateLayers: Array.from({ length: layers + 1 }, (_, layer) => layer),
  });
  const values: number[] = [];
  try {
    const prompt = { tokenIds: Array.from({ length: 20 }, (_, i) => (37 * i + 11) % 320) };
    const sampling = { temperature: 0, ignoreEos: true, maxTokens: 6 };
    const observer = {
      promptLogits: true,
      forcedTokenIds: [5, 80, 200, 13, 319, 1],
      onLogits: (_position: number, logits: Float32Array) => void values.push(...logits),
      onAuxHiddenStates: (_start: number, _count: number, states: readonly Float32Array[]) => {
        for (const state of states) values.push(...state);
      },
    };
    for await (const _ of engine.generate({ prompt, sampling }, { observer })) {
      // The observer takes what is compared.
    }
    return { modelClass: engine.info.modelClass, values };
  } finally {
    await engine.close();
  }
}

function largestDifference(a: readonly number[], b: readonly number[]): number {
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0);
}
