import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { coreModels, llama4, openCheckpoint, RmsNorm } from '@graft/core-model';
import { definePlugin } from '@graft/registry';
import { expect, onTestFinished, test } from 'vitest';
import { caseFolder, failureOf, folderWithConfig, startTiny } from './engine.fixture.ts';
import { readSource } from './model-source.ts';
import { loadEnginePlugins } from './start-engine.ts';

async function sourceOf(path: string, architecture?: string) {
  const { registry } = await loadEnginePlugins({ plugins: [] }, {});
  const checkpoint = await openCheckpoint(path);
  onTestFinished(() => checkpoint[Symbol.dispose]());
  return readSource(registry, checkpoint, architecture);
}

/** A Llama of dense-tiny's sizes, whose weights nobody reads here. */
const llama = (): string =>
  folderWithConfig('dense-tiny', {
    architectures: ['LlamaForCausalLM'],
    hidden_act: 'silu',
    layer_types: null,
    attention_chunk_size: null,
  });

test('a checkpoint is what it says it is', async () => {
  expect(await sourceOf(caseFolder('dense-tiny'))).toMatchObject({ architectures: ['Llama4ForCausalLM'], readAs: null });
  expect(await sourceOf(llama())).toMatchObject({ architectures: ['LlamaForCausalLM'], readAs: null });
});

test('is read as another architecture if its family allows that, with the reason', async () => {
  const source = await sourceOf(llama(), 'Llama4ForCausalLM');
  expect(source).toMatchObject({
    architectures: ['Llama4ForCausalLM'],
    readAs: { from: 'LlamaForCausalLM', why: expect.stringContaining('the same') },
  });
});

test('is read as another architecture of its family without further permission', async () => {
  const source = await sourceOf(caseFolder('vision-tiny'), 'Llama4ForCausalLM');
  expect(source).toMatchObject({ architectures: ['Llama4ForCausalLM'], readAs: null });
});

test('cannot be read as any other architecture, and the error lists the allowed ones', async () => {
  const error = await failureOf(sourceOf(llama(), 'Llama4ForConditionalGeneration'));
  expect(error).toMatchObject({
    code: 'GRAFT_READ_AS',
    what: expect.stringMatching(/LlamaForCausalLM cannot .* can be read as Llama4ForCausalLM/),
  });
});

test.each<[string, Record<string, unknown>]>([
  ['values of the wrong type', { vocab_size: 'many', num_hidden_layers: -1, rope_scaling: 7 }],
  ['keys that nobody knows', { kv_lora_rank: 512, scoring_func: 'sigmoid' }],
  ['a damaged text_config', { text_config: 7, vision_config: [] }],
  ['weights quantised in an unknown way', { quantization_config: { quant_method: 'bitsandbytes' } }],
  ['weights quantised in a form that is not read', { quantization_config: { quant_method: 'awq', bits: 3 } }],
  ['layers quantised in several ways', { quantization_config: { quant_method: 'compressed-tensors', config_groups: {} } }],
])('an unknown architecture is the error in spite of %s', async (_, change) => {
  const folder = folderWithConfig('dense-tiny', { architectures: ['Llama5ForCausalLM'], ...change });
  const error = await failureOf(startTiny({ model: folder }));
  expect(error).toMatchObject({ code: 'GRAFT_UNKNOWN_ARCHITECTURE', message: expect.stringContaining('Llama4ForCausalLM') });
});

test('an unknown architecture is the error even if tokenizer and weights are damaged too', async () => {
  const folder = folderWithConfig('dense-tiny', { architectures: ['Llama5ForCausalLM'] });
  writeFileSync(join(folder, 'tokenizer.json'), '{');
  expect((await failureOf(startTiny({ model: folder }))).code).toBe('GRAFT_UNKNOWN_ARCHITECTURE');
  writeFileSync(join(folder, 'model.safetensors'), 'damaged');
  expect((await failureOf(startTiny({ model: folder }))).code).toBe('GRAFT_UNKNOWN_ARCHITECTURE');
});

test.each<[string, unknown, string]>([
  ['undefined', undefined, 'without a family'],
  ['empty', {}, '"parseConfig", "weights" in its family'],
  ['without base keys in its config', { parseConfig: () => ({ vocabSize: 1 }), weights: () => ({}) }, '"maxPositionEmbeddings"'],
  ['without rules for weights', { ...llama4, weights: () => undefined }, '"runsOf", "isUnused" in the rules'],
])('a family that is %s is refused by plugin, model and part', async (_what, family, lacking) => {
  const { model } = coreModels.models![0]!;
  const models = [{ architecture: 'OddForCausalLM', model, family: async () => family as never }];
  const odd = definePlugin({ name: 'odd-model', after: ['core-model'], models });
  const folder = folderWithConfig('dense-tiny', { architectures: ['OddForCausalLM'] });
  const error = await failureOf(startTiny({ model: folder }, { pluginsInCode: [odd] }));
  expect(error).toMatchObject({ code: 'GRAFT_NO_FAMILY', what: expect.stringMatching(/"odd-model" brings OddForCausalLM/) });
  expect(error).toMatchObject({ what: expect.stringContaining(lacking) });
});

test('a model that a plugin brings without a family is refused by name', async () => {
  const bare = definePlugin({
    name: 'bare-model',
    after: ['core-model'],
    models: [{ architecture: 'BareForCausalLM', model: coreModels.models![0]!.model }],
  });
  const folder = folderWithConfig('dense-tiny', { architectures: ['BareForCausalLM'] });
  const error = await failureOf(startTiny({ model: folder }, { pluginsInCode: [bare] }));
  expect(error).toMatchObject({ code: 'GRAFT_NO_FAMILY', what: expect.stringContaining('"bare-model"') });
});

test('a model class that is not a Module is refused, and the fix says what it extends', async () => {
  class Plain {}
  const models = [{ architecture: 'PlainForCausalLM', model: async () => Plain as never, family: async () => llama4 }];
  const plain = definePlugin({ name: 'plain-model', after: ['core-model'], models });
  const folder = folderWithConfig('dense-tiny', { architectures: ['PlainForCausalLM'] });
  const error = await failureOf(startTiny({ model: folder }, { pluginsInCode: [plain] }));
  expect(error).toMatchObject({ code: 'GRAFT_NO_FAMILY', fix: 'let Plain extend Module of @graft/graph.' });
});

test('a parameter that an override gives another shape is refused with the plugin of the override', async () => {
  class WideNorm extends RmsNorm {
    constructor(hiddenSize: number, epsilon: number) {
      super(hiddenSize + 1, epsilon);
    }
  }
  const overrides = [{ of: 'RmsNorm', platform: 'interpreter', model: async () => WideNorm }];
  const wide = definePlugin({ name: 'wide-norm', after: ['core-model'], overrides });
  const error = await failureOf(startTiny({}, { pluginsInCode: [wide] }));
  expect(error).toMatchObject({
    code: 'GRAFT_CHECKPOINT_SHAPE_MISMATCH',
    what: expect.stringContaining('The parameter is in the override WideNorm of plugin "wide-norm".'),
    fix: expect.stringContaining('"wide-norm"'),
  });
});

test('a multimodal checkpoint is served as text alone, without its tower', async () => {
  const engine = await startTiny({ name: 'vision-tiny', images: false });
  expect(engine.info).toMatchObject({ architecture: 'Llama4ForConditionalGeneration', readsImages: false });
});

test('an override that is switched off by name does not serve, and one that is required then fails the start', async () => {
  const folder = folderWithConfig('dense-tiny', {});
  cpSync(join(caseFolder('dense-tiny'), 'config.json'), join(folder, 'config.json'));
  const vendor = definePlugin({
    name: 'vendor',
    after: ['core-model'],
    overrides: [
      {
        of: 'RmsNorm',
        platform: 'interpreter',
        factory: async () => (Base) => class VendorNorm extends (Base as new (...args: never[]) => object) {} as never,
      },
    ],
  });
  const served = await startTiny({ model: folder }, { pluginsInCode: [vendor] });
  expect(served.info.resolution.layers).toMatchObject([{ name: 'RmsNorm', candidates: [{}, { replaced: { count: expect.any(Number) } }] }]);
  const without = { model: folder, without: ['vendor: RmsNorm'] };
  const upstream = await startTiny(without, { pluginsInCode: [vendor] });
  expect(upstream.info.explanation).toContain('[without] vendor');
  expect((await failureOf(startTiny({ ...without, requireOverride: true }, { pluginsInCode: [vendor] }))).code).toBe(
    'GRAFT_OVERRIDE_UNUSED',
  );
});
