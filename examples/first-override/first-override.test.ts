import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { coreModels, Llama4ForCausalLM, llama4, type ModelContext, upstreamContext } from '@graft/core-model';
import { captureLanguageModel, graftVersion, type LlmEngine } from '@graft/engine';
import { CaptureCache, type CapturedModel, inlineRegions, ops } from '@graft/graph';
import { explainHooks, HookRunner, loadPlugins } from '@graft/registry';
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

test('the hook scales the queries of every layer before the attention, and costs no graph', async () => {
  const { registry, hooks } = await load();
  const classes = await registry.load<ModelContext, FirstOverride>(registry.resolve([architecture], context));
  const patched = await classes.construct(context);
  const runner = new HookRunner(classes.resolution, hooks);
  await runner.run('init', patched, context);
  const others = config.numHiddenLayers - 1;
  const patch = `replaceMethod of ChunkedLocalAttention.forward at model.layers.0.self_attn.attn.forward and ${others} more`;
  expect(explainHooks(runner.toJSON())).toContain(patch);
  expect(explainHooks(runner.toJSON())).toContain('the attention kernel takes no scale');

  const capture = (of: Llama4ForCausalLM) => captureLanguageModel(of, new CaptureCache());
  const [before, after] = [capture(new Llama4ForCausalLM(context)), capture(patched)];
  expect(attentionScales(before)).toEqual(new Array(config.numHiddenLayers).fill(config.headDim ** -0.5));
  expect(attentionScales(after)).toEqual(new Array(config.numHiddenLayers).fill(1));
  expect(after.cache.count('decoder-layer')).toBe(before.cache.count('decoder-layer'));
});

describe('the testing kit', () => {
  const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-kit-'));
  const otherModel = withOtherWeights(model);
  afterAll(() => {
    for (const folder of [cacheDirectory, otherModel]) rmSync(folder, { recursive: true });
  });

  test('finds every property of the override to hold', async () => {
    const { records } = await checkPlugin<ModelContext, FirstOverride, LlmEngine>(firstOverride, {
      needs: [coreModels, interpreterCpu],
      context: ({ build }) => ({ ...context, build }),
      reload: () => ({
        checkpoints: [model, otherModel],
        load: (checkpoint) => startEngine(checkpoint, { cacheDirectory, plugins: ['./interpreter-cpu.ts', './plugin.ts'] }),
        reload: (engine, checkpoint) => engine.reloadWeights(checkpoint),
        outputs: async (engine) => (await continueWith(engine)).logits,
        close: (engine) => engine.close(),
      }),
    });
    expect(records.map(({ property, outcome }) => `${property}: ${outcome}`)).toEqual([
      'contract holds: held',
      'phases repeat: held',
      'init keeps the parameters: held',
      'undo restores: held',
      'copies share nothing: held',
      'reload equals a fresh load: held',
    ]);
  });
});

test('the override is under 80 lines', () => {
  expect(readFileSync(join(here, 'plugin.ts'), 'utf8').split('\n').length).toBeLessThan(80);
});

function attentionScales(captured: CapturedModel): unknown[] {
  const nodes = inlineRegions(captured).nodes;
  return nodes.flatMap((node) => (node.kind === 'op' && node.op === ops.attention ? [node.attributes['scale']] : []));
}

function load() {
  return loadPlugins({ plugins: [coreModels, interpreterCpu, firstOverride], specifiers: [], graftVersion });
}
