import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Attention, Llama4DecoderLayer, Llama4ForCausalLM, type ModelContext } from '@graft/core-model';
import { definePlugin, InitHook, type Patches, PostLoadHook } from '@graft/registry';
import { expect, test } from 'vitest';
import { caseFolder, collect, failureOf, idsOf, promptOf, request, root, startTiny, temporaryFolder } from './engine.fixture.ts';
import { explainArchitecture, explainPatches } from './explain.ts';

/** Another method on every layer's attention, which does what the method did. */
class Patched extends Llama4ForCausalLM {
  @InitHook({ reason: 'one function for all layers' })
  replaceForward(patches: Patches): void {
    const layers = [...this.model.layers].filter((layer) => layer instanceof Llama4DecoderLayer);
    const { forward } = layers[0]!.self_attn.attn;
    for (const { self_attn } of layers) patches.replaceMethod(self_attn.attn, 'forward', forward as (this: Attention) => never);
  }
  @InitHook({ modes: ['other'] })
  never(): void {
    throw new Error('This mode was not asked for.');
  }
  @PostLoadHook({ reload: 'keep', reason: 'needs weights' })
  afterwards(): void {}
}

const override = definePlugin({
  name: 'patching',
  after: ['core-model'],
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'interpreter', model: async () => Patched }],
  hooks: [
    {
      of: 'Llama4ForCausalLM',
      platform: 'interpreter',
      phase: 'init',
      run: function note(model: Llama4ForCausalLM, _: ModelContext, patches: Patches) {
        patches.lend(model, 'gate', {});
      },
    },
  ],
});
const interpreter = join(root, 'packages/engine/src/interpreter-plugin.fixture.ts');
const asked = { app: root, plugins: [interpreter], platform: 'interpreter' };

test('explain --patches needs only a config: it lists each hook that ran or would run, and each patch with its owner, phase, reason and place', async () => {
  const model = temporaryFolder();
  copyFileSync(join(caseFolder('dense-tiny'), 'config.json'), join(model, 'config.json'));
  const { text, record } = await explainPatches({ ...asked, model }, { pluginsInCode: [override] });
  expect(record.resolution.chain.at(-1)).toMatchObject({ plugin: 'patching', className: 'Patched' });
  expect(record.hooks.map(({ phase, hook, outcome }) => [phase, hook, outcome])).toEqual([
    ['init', 'Patched.replaceForward', 'ran'],
    ['init', 'Patched.never', 'skipped: other mode'],
    ['init', 'patching: note', 'ran'],
    ['postLoad', 'Patched.afterwards', 'planned'],
  ]);
  const reason = 'one function for all layers';
  const hook = { plugin: 'patching', hook: 'Patched.replaceForward', phase: 'init', operation: 'replaceMethod', reason };
  const { length } = record.patches;
  expect(record.patches[0]).toMatchObject({ id: 1, ...hook, path: 'model.layers.0.self_attn.attn.forward' });
  expect(record.patches[length - 2]).toMatchObject({ ...hook, path: `model.layers.${length - 2}.self_attn.attn.forward` });
  expect(record.patches[length - 1]).toMatchObject({ operation: 'lend', hook: 'patching: note', path: 'gate' });
  expect(text).toContain('Llama4ForCausalLM (platform "interpreter", mode "regional") is served by Patched');
  expect(text).toMatch(
    /replaceMethod of \w+\.forward at model\.layers\.0\.self_attn\.attn\.forward and \d+ more: .*plugin "patching"\); one function/,
  );
  expect(text).toContain(
    '[postLoad] Patched.afterwards (plugin "patching"; all modes; reload: keep): runs once the weights are loaded; needs weights',
  );
});

test('a patch that upstream no longer needs is an error at load', async () => {
  const plugin = (Model: typeof Llama4ForCausalLM) =>
    definePlugin({
      name: 'late',
      after: ['core-model'],
      overrides: [{ of: 'Llama4ForCausalLM', platform: 'interpreter', model: async () => Model }],
    });
  const link = 'https://example.com/upstream/7';
  class Obsolete extends Llama4ForCausalLM {
    @InitHook()
    lend(patches: Patches): void {
      patches.lend(this, 'gate', {}, { upstream: link, removeWhen: '>=0.1.0' });
    }
  }
  const obsolete = await failureOf(startTiny({}, { pluginsInCode: [plugin(Obsolete)] }));
  expect(obsolete).toMatchObject({ code: 'GRAFT_HOOK_FAILED', cause: { code: 'GRAFT_PATCH_REFUSED', fix: `remove the patch: ${link}.` } });
});

test('a running engine lists its hooks, and its patches in groups', async () => {
  const engine = await startTiny({}, { pluginsInCode: [override] });
  expect(engine.info.changes.hooks.map(({ hook, outcome }) => [hook, outcome])).toEqual([
    ['Patched.replaceForward', 'ran'],
    ['Patched.never', 'skipped: other mode'],
    ['patching: note', 'ran'],
    ['Patched.afterwards', 'ran'],
  ]);
  expect(engine.info.changes.patches.map(({ operation, count, paths }) => [operation, count, paths.length])).toEqual([
    ['replaceMethod', 8, 8], // dense-tiny has 8 layers
    ['lend', 1, 1],
  ]);
  expect(structuredClone(engine.info)).toEqual(engine.info); // it crosses to the main thread
  expect(idsOf(await collect(engine.generate(request(promptOf(3)))))).toHaveLength(6);
});

test('a model is explained by its path, and a path without a model is named', async () => {
  const { record } = await explainArchitecture({ ...asked, model: caseFolder('dense-tiny') });
  expect(record.requested).toEqual(['Llama4ForCausalLM']);
  expect((await failureOf(explainPatches({ ...asked, model: '/nowhere' }))).code).toBe('GRAFT_CHECKPOINT_NOT_FOUND');
  expect((await failureOf(explainArchitecture(asked))).code).toBe('GRAFT_UNKNOWN_ARCHITECTURE');
  const model = caseFolder('dense-tiny');
  expect((await failureOf(explainArchitecture({ ...asked, model, mode: 'regionall' }))).code).toBe('GRAFT_UNKNOWN_MODE');
});

test('a model is read as the named architecture, and an unknown name is an error', async () => {
  const model = caseFolder('dense-tiny');
  const error = await failureOf(explainPatches({ ...asked, model, architecture: 'Llama4ForCausalLm' }));
  expect(error).toMatchObject({ code: 'GRAFT_UNKNOWN_ARCHITECTURE', fix: expect.stringContaining('"Llama4ForCausalLM"') });
});
