// What a start and `graft explain` say of a plugin that would do nothing, or harm.
import { Llama4ForCausalLM, Llama4ForConditionalGeneration, RmsNorm } from '@graft/core-model';
import type { Tensor } from '@graft/graph';
import { definePlugin, type Patches, type Plugin, type PluginDeclaration } from '@graft/registry';
import { describe, expect, test } from 'vitest';
import { failureOf, root, startTiny, tinyConfig } from './engine.fixture.ts';
import { explainArchitecture } from './explain.ts';
import { LlmEngine } from './llm-engine.ts';

const vendor = (more: Partial<PluginDeclaration>): Plugin => definePlugin({ name: 'vendor', after: ['core-model'], ...more });
const overriding = (model: unknown, more: object = {}): Plugin =>
  vendor({ overrides: [{ of: 'Llama4ForCausalLM', platform: 'interpreter', model: async () => model as never, ...more }] });

describe('computeLogits', () => {
  class WithoutReturn extends Llama4ForCausalLM {
    override computeLogits(hiddenStates: Tensor): Tensor {
      super.computeLogits(hiddenStates);
      return undefined as never;
    }
  }
  class Multiplied extends Llama4ForCausalLM {
    override computeLogits(hiddenStates: Tensor): Tensor {
      return ((super.computeLogits(hiddenStates) as never) * 2) as never;
    }
  }
  class Asynchronous extends Llama4ForCausalLM {
    override computeLogits(hiddenStates: Tensor): Tensor {
      return Promise.resolve(super.computeLogits(hiddenStates)) as never;
    }
  }
  test.each<[string, typeof Llama4ForCausalLM, object]>([
    ['without a return', WithoutReturn, { code: 'GRAFT_MODEL_OUTPUT', where: 'WithoutReturn.computeLogits' }],
    [
      'that calculates with a tensor as if it were a number',
      Multiplied,
      { code: 'GRAFT_TENSOR_COERCED', where: expect.stringContaining('(Multiplied.computeLogits)') },
    ],
    ['that is asynchronous', Asynchronous, { code: 'GRAFT_MODEL_OUTPUT', where: 'Asynchronous.computeLogits' }],
  ])('%s ends the start, and not each request', async (_, Model, error) => {
    expect(await failureOf(LlmEngine.start(tinyConfig(), { pluginsInCode: [overriding(Model)] }))).toMatchObject(error);
  });
});

class FastNorm extends RmsNorm {}
const norm = (more: object) => vendor({ overrides: [{ of: 'RmsNorm', platform: 'interpreter', model: async () => FastNorm, ...more }] });
const hook = (more: object) =>
  vendor({ hooks: [{ of: 'RmsNorm', platform: 'interpreter', phase: 'init', run: function note() {}, ...more }] });

describe.each([
  ['an override', norm],
  ['a hook', hook],
])('%s', (_, declare) => {
  test('for a platform that no plugin brings serves nothing, and the engine and explain give the nearest name', async () => {
    const pluginsInCode = [declare({ platform: 'interpretr' })];
    const says = 'no loaded plugin brings platform "interpretr" (nearest: "interpreter")';
    expect((await startTiny({}, { pluginsInCode })).info.explanation).toContain(says);
    const { app, plugins, platform } = { ...tinyConfig(), app: root };
    const asked = { app, plugins, platform, architectures: ['Llama4ForCausalLM'] } as Parameters<typeof explainArchitecture>[0];
    expect((await explainArchitecture(asked, { pluginsInCode })).text).toContain(says);
  });

  test('with a mode that its platform lacks ends the start, and explain, with the nearest name', async () => {
    const pluginsInCode = [declare({ modes: ['reginal'] })];
    const refused = { code: 'GRAFT_TARGET_MODE', fix: expect.stringContaining('use "regional"') };
    expect(await failureOf(LlmEngine.start(tinyConfig(), { pluginsInCode }))).toMatchObject(refused);
    const asked = { app: root, plugins: tinyConfig().plugins!, architectures: ['Llama4ForCausalLM'] };
    expect(await failureOf(explainArchitecture(asked, { pluginsInCode }))).toMatchObject(refused);
  });
});

test('an override that cannot read images serves its model for text alone', async () => {
  class TextAlone extends Llama4ForConditionalGeneration {}
  const override = { of: 'Llama4ForConditionalGeneration', capabilities: { images: false } };
  const { info } = await startTiny({ name: 'vision-tiny' }, { pluginsInCode: [overriding(TextAlone, override)] });
  expect(info).toMatchObject({ modelClass: 'TextAlone', readsImages: false });
  expect((await startTiny({ name: 'vision-tiny' })).info.readsImages).toBe(true);
});

test('a patch that another plugin covers is named in the explanation of what the hooks did', async () => {
  function forward(this: RmsNorm, x: Tensor, residual: Tensor | null = null) {
    return (RmsNorm.prototype.forward as (...args: unknown[]) => Tensor).call(this, x, residual);
  }
  const patching = (name: string, after: string[]) =>
    definePlugin({
      name,
      after,
      hooks: [
        {
          of: 'RmsNorm',
          platform: 'interpreter',
          phase: 'init',
          run: (one: RmsNorm, _: unknown, patches: Patches) => patches.replaceMethod(one, 'forward', forward as never),
        },
      ],
    });
  const pluginsInCode = [patching('one', ['core-model']), patching('two', ['one'])];
  const { info } = await startTiny({}, { pluginsInCode });
  expect(info.changes.patches.map(({ plugin, coveredBy }) => [plugin, coveredBy?.plugin ?? null])).toEqual([
    ['one', 'two'],
    ['two', null],
  ]);
});
