import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { Llama4ForCausalLM } from '@graft/core-model';
import type { Tensor } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import { describe, expect, test } from 'vitest';
import {
  failureOf,
  folderWithConfig,
  generateIds,
  promptOf,
  request,
  startTiny,
  type TinyOptions,
  temporaryFolder,
  tinyConfig,
} from './engine.fixture.ts';
import { watch } from './interpreter-plugin.fixture.ts';
import { LlmEngine } from './llm-engine.ts';

/** Leaves the projection to the vocabulary out. */
class GivesHiddenStates extends Llama4ForCausalLM {
  override computeLogits(hiddenStates: Tensor): Tensor {
    return hiddenStates;
  }
}

describe('a start', () => {
  test('ends at the capture if the width of the logits is not the vocabulary’s', async () => {
    const overrides = [{ of: 'Llama4ForCausalLM', platform: 'interpreter', model: async () => GivesHiddenStates }];
    const pluginsInCode = [definePlugin({ name: 'narrow', after: ['core-model'], overrides })];
    expect(await failureOf(LlmEngine.start(tinyConfig(), { pluginsInCode }))).toMatchObject({
      code: 'GRAFT_MODEL_OUTPUT',
      where: 'GivesHiddenStates.computeLogits',
      what: expect.stringMatching(/float32\[outputRows, \d+\], expected float32\[outputRows, \d+\], the vocabulary/),
    });
  });

  test('reports its steps in order, each with its time, and the class that serves', async () => {
    const steps: string[] = [];
    const engine = await startTiny({ servedModelName: 'tiny' }, { onProgress: ({ step }) => steps.at(-1) !== step && steps.push(step) });
    expect(steps).toEqual(['resolve', 'construct', 'load', 'open', 'capture', 'compile']);
    expect(Object.keys(engine.info.timings)).toEqual(['resolve', 'construct', 'init', 'load', 'postLoad', 'open', 'capture', 'compile']);
    expect(engine.info).toMatchObject({
      model: 'tiny',
      architecture: 'Llama4ForCausalLM',
      modelClass: 'Llama4ForCausalLM',
      platform: 'interpreter',
      mode: 'regional',
      weights: 'float32',
      plugins: ['core-model', 'interpreter'],
    });
    expect(engine.info.explanation).toMatch(/Llama4ForCausalLM/);
  });

  test.each<[string, TinyOptions, string, RegExp]>([
    [
      'an unknown key',
      { maxSequence: 4 } as TinyOptions,
      'GRAFT_ENGINE_CONFIG',
      /"maxSequence" is not a key here[\s\S]*where: maxSequence\n[\s\S]*mean "maxSequences"/,
    ],
    ['a value out of range', { maxSequences: 0 }, 'GRAFT_ENGINE_CONFIG', /where: maxSequences/],
    ['a value of the wrong type', { prefillTokens: 'many' as never }, 'GRAFT_ENGINE_CONFIG', /where: prefillTokens/],
    ['a context longer than the model has', { maxModelLength: 300 }, 'GRAFT_ENGINE_CONFIG', /300 .* 256/],
    ['a layer that the model lacks', { auxHiddenStateLayers: [9] }, 'GRAFT_ENGINE_CONFIG', /names 9; .* 0 to 7/],
    ['an unknown mode', { mode: 'lazy' }, 'GRAFT_UNKNOWN_MODE', /"interpreter" has no mode "lazy"[\s\S]*"regional"/],
    [
      'an option of a platform that has none',
      { platformOptions: { buckets: 1 } },
      'GRAFT_ENGINE_CONFIG',
      /"interpreter" has no options, but "buckets"/,
    ],
    [
      'an option of an override where none serves',
      { overrideOptions: { branchFree: true } },
      'GRAFT_ENGINE_CONFIG',
      /Llama4ForCausalLM here reads the override option "branchFree"[\s\S]*where: overrideOptions/,
    ],
    ['an unknown platform', { platform: 'interprter' }, 'GRAFT_UNKNOWN_PLATFORM', /"interprter"[\s\S]*interpreter/],
    ['an unknown plugin', { plugins: ['@graft/none'] }, 'GRAFT_PLUGIN_NOT_FOUND', /@graft\/none/],
    ['a path with nothing at it', { model: '/nowhere' }, 'GRAFT_CHECKPOINT_NOT_FOUND', /\/nowhere/],
    [
      'an unknown key in the overrides',
      { configOverrides: { rope_tetha: 1 } },
      'GRAFT_CONFIG_OVERRIDE_UNKNOWN',
      /"rope_tetha"[\s\S]*rope_theta/,
    ],
    ['no backend for the platform', { platform: 'bare' }, 'GRAFT_SERVICE_NOT_BOUND', /Nothing binds Backend[\s\S]*ModelRunner/],
  ])('with %s ends in one error, and a good one succeeds after it', async (_, change, code, words) => {
    const alive = watch.programsAlive;
    const error = await failureOf(LlmEngine.start(tinyConfig(change)));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(words);
    expect(watch.programsAlive).toBe(alive);
    const engine = await startTiny();
    expect(await generateIds(engine, request(promptOf(3), { maxTokens: 1 }))).toHaveLength(1);
  });

  test.each(['resolve', 'construct', 'load', 'open', 'capture', 'compile'])(
    'that is aborted at "%s" ends in the reason and frees the program',
    async (at) => {
      const alive = watch.programsAlive;
      const controller = new AbortController();
      const onProgress = ({ step }: { step: string }) => step === at && controller.abort(new Error('never mind'));
      const config = tinyConfig({ cacheDirectory: temporaryFolder() });
      await expect(LlmEngine.start(config, { onProgress, signal: controller.signal })).rejects.toThrow('never mind');
      expect(watch.programsAlive).toBe(alive);
    },
  );

  test('removes converted weights and recipes over cacheBytes from the cache folder, never its own', async () => {
    const cacheDirectory = temporaryFolder();
    const [weights, recipes] = [`${'d'.repeat(40)}.weights`, `recipes/${'e'.repeat(40)}`];
    mkdirSync(`${cacheDirectory}/recipes`);
    for (const name of [weights, recipes]) writeFileSync(`${cacheDirectory}/${name}`, 'old');
    const engine = await startTiny({ cacheDirectory, cacheBytes: 0 });
    const left = readdirSync(cacheDirectory, { recursive: true }).map(String);
    expect(left.filter((name) => [weights, recipes].includes(name))).toEqual([]);
    expect(left).toContainEqual(expect.stringMatching(/\.weights$/));
    expect(await generateIds(engine, request(promptOf(3), { maxTokens: 1 }))).toHaveLength(1);
  });

  test('whose tokenizer is damaged ends before the model is built', async () => {
    const folder = folderWithConfig('dense-tiny', {});
    writeFileSync(`${folder}/tokenizer.json`, '{"model":');
    const error = await failureOf(LlmEngine.start(tinyConfig({ model: folder })));
    expect(error.code).toBe('GRAFT_TOKENIZER_INVALID');
    expect(error.message).toContain(`${folder}/tokenizer.json`);
  });
});
