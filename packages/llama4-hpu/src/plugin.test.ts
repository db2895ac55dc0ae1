import { coreModels } from '@graft/core-model';
import { explainArchitecture, explainPatches, graftVersion } from '@graft/engine';
import { loadPlugins } from '@graft/registry';
import { describe, expect, test } from 'vitest';
import llama4Hpu from './plugin.ts';
import { caseFolder } from './run-variants.fixture.ts';

const load = (plugins = [coreModels, llama4Hpu]) => loadPlugins({ plugins, specifiers: [], graftVersion });

describe.each([
  ['Llama4ForCausalLM', 'HpuLlama4ForCausalLM'],
  ['Llama4ForConditionalGeneration', 'HpuLlama4ForConditionalGeneration'],
])('%s', (architecture, override) => {
  test('is served on hpu by the override, which names upstream as its base', async () => {
    const { registry } = await load();
    const { resolution } = await registry.load(registry.resolve([architecture], { platform: 'hpu', mode: 'compile' }));
    const { chain, candidates } = resolution;
    expect(chain.map(({ className, kind, plugin }) => ({ className, kind, plugin }))).toEqual([
      { className: architecture, kind: 'upstream', plugin: 'core-model' },
      { className: override, kind: 'subclass', plugin: 'llama4-hpu' },
    ]);
    expect(Object.fromEntries(candidates.map(({ plugin, reason }) => [plugin, reason]))).toEqual({
      'core-model': 'base',
      'llama4-hpu': 'selected',
    });
  });

  test('finds in upstream all that it relies on', async () => {
    const { registry } = await load();
    const contracts = async (platform: string) => (await registry.load(registry.resolve([architecture], { platform }))).checkContracts();
    const reports = await contracts('hpu');
    expect(reports.map(({ state, breaches, notChecked }) => ({ state, breaches, notChecked }))).toEqual(
      reports.map(() => ({ state: 'holds', breaches: [], notChecked: [] })),
    );
    expect(reports).not.toEqual([]);
    expect(await contracts('cpu')).toEqual([]);
  });

  test('is served on another platform by upstream, and the override says why it is not', async () => {
    const { registry } = await load();
    const { chain, candidates } = registry.resolve([architecture], { platform: 'cpu' });
    expect(chain.map(({ plugin }) => plugin)).toEqual(['core-model']);
    expect(candidates.find(({ plugin }) => plugin === 'llama4-hpu')).toMatchObject({
      reason: 'other-platform',
      detail: 'serves platform "hpu", not "cpu"',
    });
  });
});

test('the plugin comes after the upstream models, and is refused without them', async () => {
  const { plugins } = await load([llama4Hpu, coreModels]);
  expect(plugins.map(({ name }) => name)).toEqual(['core-model', 'llama4-hpu']);
  await expect(load([llama4Hpu])).rejects.toMatchObject({ code: 'GRAFT_PLUGIN_MISSING' });
});

test('graft explain says that the device is emulated, with the hooks of a model too', async () => {
  const plugins = [new URL('./plugin.ts', import.meta.url).href];
  const { text } = await explainArchitecture({ architectures: ['Llama4ForCausalLM'], platform: 'hpu', plugins });
  expect(text).toMatch(/platform "hpu" is emulated: no Gaudi found here .*no Gaudi figure is claimed/);
  const patches = await explainPatches({ model: caseFolder('scout-tiny'), platform: 'hpu', plugins });
  expect(patches.text).toContain('platform "hpu" is emulated: no Gaudi found here');
  expect(patches.text).toMatch(/\[init\] llama4-hpu: patchAttentionScale \(plugin "llama4-hpu"; modes compile, lazy\)/);
});
