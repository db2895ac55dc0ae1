import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { coreModels, Llama4ForCausalLM, llama4, type ModelContext, upstreamContext } from '@graft/core-model';
import { captureLanguageModel, graftVersion, type LlmEngine } from '@graft/engine';
import { CaptureCache, type CapturedModel, inlineRegions, type OpFacts, ops } from '@graft/graph';
import { loadPlugins } from '@graft/registry';
import { checkPlugin } from '@graft/registry/testing';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withOtherWeights } from '../../tests/fixtures/other-weights.ts';
import { type Continued, continuePrompt, continueWith, here, largestDifference, model, startEngine } from './continue-prompt.fixture.ts';
import interpreterCpu from './interpreter-cpu.ts';
import firstOverride, { type FirstOverride, softCap } from './plugin.ts';

const architecture = 'Llama4ForCausalLM';
const config = llama4.parseConfig(JSON.parse(readFileSync(join(model, 'config.json'), 'utf8')));
const context = upstreamContext(architecture, config, { maxModelLength: 32 });

describe('through the engine', () => {
  let upstream: Continued;
  let override: Continued;
  beforeAll(async () => {
    upstream = await continuePrompt(['./interpreter-cpu.ts']);
    override = await continuePrompt(['./interpreter-cpu.ts', './plugin.ts']);
  });

  test('the override serves, and explain says why', () => {
    expect(override.info.modelClass).toBe('FirstOverride');
    expect(override.info.explanation).toContain(`${architecture} (platform "cpu", mode "full") is served by FirstOverride`);
    expect(override.info.explanation).toContain('[selected] first-override (subclass, platform "cpu", priority 0): the highest priority');
    expect(override.info.explanation).toMatch(/\[selected\] first-override .*; contract holds$/m);
    const norms = 2 * config.numHiddenLayers + 1;
    expect(override.info.explanation).toContain(
      `contract holds; SplitNorm replaced ${norms} instances at model.layers.0.input_layernorm and`,
    );
  });

  test('logits are capped exactly as they should be, which is far from what they were', () => {
    const expected = upstream.logits.map((logit) => softCap * Math.tanh(logit / softCap));
    expect(largestDifference(override.logits, expected)).toBeLessThan(1e-5);
    expect(largestDifference(override.logits, upstream.logits)).toBeGreaterThan(1);
    expect(override.logits.every((logit) => Math.abs(logit) < softCap)).toBe(true);
  });

  test('greedy answers stay, since the cap keeps the order', () => {
    expect(override.tokenIds).toEqual(upstream.tokenIds);
    expect(upstream.tokenIds).toHaveLength(8);
  });

  test('without the plugin, upstream serves as before', async () => {
    const again = await continuePrompt(['./interpreter-cpu.ts']);
    expect(again.info.modelClass).toBe(architecture);
    expect(again.logits).toEqual(upstream.logits);
  });
});

test('the layer override replaces every norm of the residual stream, adds before it, and costs no graph', async () => {
  const { registry } = await loadPlugins({ plugins: [coreModels, interpreterCpu, firstOverride], specifiers: [], graftVersion });
  const classes = await registry.load<ModelContext, FirstOverride>(registry.resolve([architecture], context));
  const capture = (of: Llama4ForCausalLM) => captureLanguageModel(of, new CaptureCache());
  const [before, after] = [capture(new Llama4ForCausalLM(context)), capture(await classes.construct({ ...context, build: classes.build }))];
  const norms = 2 * config.numHiddenLayers; // two a layer and the last one; the very first has no residual to add
  expect(countOf(ops.addRmsNorm, before)).toBe(norms);
  expect(countOf(ops.addRmsNorm, after)).toBe(0);
  expect(countOf(ops.add, after) - countOf(ops.add, before)).toBe(norms);
  expect(after.cache.count('decoder-layer')).toBe(before.cache.count('decoder-layer'));
});

describe('the testing kit', () => {
  const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-kit-'));
  const otherModel = withOtherWeights(model);
  afterAll(() => {
    for (const folder of [cacheDirectory, otherModel]) rmSync(folder, { recursive: true });
  });

  test('finds every property of both overrides to hold', async () => {
    const { records } = await checkPlugin<ModelContext, FirstOverride, LlmEngine>(firstOverride, {
      needs: [coreModels, interpreterCpu],
      architectures: [architecture, 'Llama4ForConditionalGeneration'],
      context: ({ build }) => ({ ...context, build }),
      reload: () => ({
        checkpoints: [model, otherModel],
        load: (checkpoint) => startEngine(checkpoint, { cacheDirectory, plugins: ['./interpreter-cpu.ts', './plugin.ts'] }),
        reload: (engine, checkpoint) => engine.reloadWeights(checkpoint),
        outputs: async (engine) => (await continueWith(engine)).logits,
        close: (engine) => engine.close(),
      }),
    });
    const properties = [
      'contract holds: held',
      'phases repeat: held',
      'init keeps the parameters: held',
      'undo restores: held',
      'copies share nothing: held',
      'reload equals a fresh load: held',
    ];
    expect(records.map(({ property, outcome }) => `${property}: ${outcome}`)).toEqual([...properties, ...properties]);
  });
});

test('the override is under 80 lines', () => {
  expect(readFileSync(join(here, 'plugin.ts'), 'utf8').split('\n').length).toBeLessThan(80);
});

function countOf(op: OpFacts, captured: CapturedModel): number {
  return inlineRegions(captured).nodes.filter((node) => node.kind === 'op' && node.op === op).length;
}
