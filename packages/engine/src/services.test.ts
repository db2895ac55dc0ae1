import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CheckpointFormat, Llama4ForCausalLM, readSafetensorsHeader } from '@graft/core-model';
import { definePlugin, type PluginDeclaration } from '@graft/registry';
import { expect, test } from 'vitest';
import {
  caseFolder,
  collect,
  failureOf,
  generateIds,
  idsOf,
  promptOf,
  request,
  root,
  startTiny,
  temporaryFolder,
  textOf,
} from './engine.fixture.ts';
import { explainArchitecture, explainContract, explainPatches } from './explain.ts';
import { explainGraphs } from './explain-graphs.ts';
import { watch } from './interpreter-plugin.fixture.ts';
import { AnyShapeRunner } from './runner/any-shape-runner.ts';
import {
  Backend,
  CheckpointFormats,
  LogitsProcessors,
  Lowerings,
  ModelRunner,
  SchedulerPolicy,
  Tokenizers,
  WeightPolicy,
} from './tokens.ts';
import { verify } from './verify.ts';

const interpreter = join(root, 'packages/engine/src/interpreter-plugin.fixture.ts');
const withPlugin = (bind: PluginDeclaration['bind'] & {}) => ({ pluginsInCode: [definePlugin({ name: 'mine', bind })] });
const prompt = promptOf(9);

/** One file: the length of the config (uint32), the config, and a safetensors file. */
const pack: CheckpointFormat = {
  name: 'pack',
  reads: (path) => path.endsWith('.pack'),
  open(path, openFile) {
    const file = openFile(path);
    const start = 4 + Buffer.from(file.read(0, 4)).readUInt32LE();
    const config = JSON.parse(Buffer.from(file.read(4, start - 4)).toString()) as object;
    const body = {
      ...file,
      byteLength: file.byteLength - start,
      read: (offset: number, length: number) => file.read(start + offset, length),
    };
    return { config, metadata: null, tensors: readSafetensorsHeader(body).tensors };
  },
};

function packed(name: string): string {
  const [config, weights] = ['config.json', 'model.safetensors'].map((file) => readFileSync(join(caseFolder(name), file)));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(config!.length);
  const path = join(temporaryFolder(), `${name}.pack`);
  writeFileSync(path, Buffer.concat([length, config!, weights!]));
  return path;
}

/** A character is a token. */
const tokenizer = {
  eosTokenIds: [],
  encode: (text: string) => Array.from(text, (character) => character.charCodeAt(0)),
  leastTokens: () => 0,
  decode: (ids: readonly number[]) => ids.map((id) => `<${id}>`).join(''),
  piece: (id: number) => ({ bytes: new TextEncoder().encode(`<${id}>`), special: false }),
};
const characters = { name: 'characters', open: () => tokenizer };

test('a checkpoint in a plugin’s format is served, and its weights are reloaded', async () => {
  const expected = await generateIds(await startTiny(), request(prompt));
  const model = packed('dense-tiny');
  const engine = await startTiny(
    { model },
    withPlugin((bind) => bind.many(CheckpointFormats).toConstantValue(pack)),
  );
  expect(await generateIds(engine, request(prompt))).toEqual(expected);
  expect(await engine.reloadWeights(model)).toMatchObject({ model });
  expect(await generateIds(engine, request(prompt))).toEqual(expected);
  expect(await failureOf(startTiny({ model }))).toMatchObject({ code: 'GRAFT_CHECKPOINT_CORRUPT' }); // no GGUF
});

test('a plugin’s tokenizer reads the text of requests and writes that of answers', async () => {
  const engine = await startTiny(
    {},
    withPlugin((bind) => bind.many(Tokenizers).toConstantValue(characters)),
  );
  expect(await engine.tokenize('ab')).toEqual([97, 98]);
  const deltas = await collect(engine.generate(request({ text: 'ab' })));
  expect(textOf(deltas)).toBe(characters.open().decode(await generateIds(engine, request([97, 98]))));
  expect(idsOf(deltas)).toHaveLength(6);
});

test('graft explain, graphs, contract and verify read a model in the formats of plugins too', async () => {
  const model = packed('dense-tiny');
  const asked = { app: root, plugins: [interpreter], platform: 'interpreter', model };
  class Override extends Llama4ForCausalLM {}
  const pluginFor = (platform: string, more: Partial<PluginDeclaration> = {}) =>
    definePlugin({
      name: 'mine',
      after: ['core-model'],
      overrides: [{ of: 'Llama4ForCausalLM', platform, model: async () => Override }],
      bind(bind) {
        bind.many(CheckpointFormats).toConstantValue(pack);
        bind.many(Tokenizers).toConstantValue(characters);
      },
      ...more,
    });
  const options = { pluginsInCode: [pluginFor('interpreter')] };
  const resolution = { architecture: 'Llama4ForCausalLM' };
  expect((await explainArchitecture(asked, options)).record).toMatchObject(resolution);
  expect((await explainPatches(asked, options)).record).toMatchObject({ resolution });
  expect((await explainGraphs(asked, options)).record).toMatchObject({ ...resolution, modelClass: 'Override' });
  const { record } = await explainContract({ ...asked, className: 'Llama4ForCausalLM' }, options);
  expect(record.reliesOn.parameters).toContain('model.norm.weight');
  const equal = { verdict: 'equal', promptIds: [97, 98], weights: expect.stringContaining(model) };
  const text = { prompt: 'ab', maxTokens: 1 };
  expect((await verify({ ...asked, ...text }, options)).record).toMatchObject(equal);
  const absent = pluginFor('far', { platforms: [{ name: 'far', modes: ['a'], detect: () => 'absent' }] });
  const standIn = await verify({ ...asked, ...text, platform: 'far' }, { pluginsInCode: [absent] });
  expect(standIn.record).toMatchObject({ ...equal, device: expect.stringContaining('the interpreter') });
});

test('a plugin’s scheduler policy decides which sequence is next, and how long the pieces of a prompt are', async () => {
  class ShortestFirst {
    next<S extends { promptLength: number }>(waiting: readonly S[]): S {
      return waiting.toSorted((a, b) => a.promptLength - b.promptLength)[0]!;
    }
    prefillTokens() {
      return 2;
    }
  }
  const engine = await startTiny(
    { maxSequences: 1 },
    withPlugin((bind) => bind(SchedulerPolicy).to(ShortestFirst)),
  );
  watch.reset();
  const ended: number[] = [];
  const lengths = [4, 6, 3];
  const run = async (length: number) => {
    await generateIds(engine, request(promptOf(length), { maxTokens: 1 }));
    ended.push(length);
  };
  await Promise.all(lengths.map(run));
  expect(ended).toEqual([4, 3, 6]); // the first one had the slot already
  const widths = watch.steps.map(({ inputs }) => inputs['inputIds']?.dims.at(-1));
  expect(widths).toEqual([2, 2, 2, 1, 2, 2, 2]);
});

test('a plugin’s logits processor changes the tokens that are chosen, after the API’s own', async () => {
  const [first] = await generateIds(await startTiny(), request(prompt));
  const seen: number[] = [];
  const engine = await startTiny(
    {},
    withPlugin((bind) =>
      bind.many(LogitsProcessors).toConstantValue({
        name: 'not the first',
        start: () => ({
          apply(logits) {
            seen.push(logits[5]!);
            logits[first!] = Number.NEGATIVE_INFINITY;
          },
        }),
      }),
    ),
  );
  const ids = await generateIds(engine, request(prompt, { logitBias: { 5: 100 }, maxTokens: 3 }));
  expect(ids).not.toContain(first);
  expect(Math.min(...seen)).toBeGreaterThan(50);
});

test.each([
  ['apply', { start: () => ({ apply: () => Promise.reject(new Error('late')) }) }],
  ['take', { start: () => ({ apply: () => undefined, take: () => Promise.reject(new Error('late')) }) }],
  ['start', { start: () => Promise.reject(new Error('late')) }],
  ['start', { start: () => ({}) }],
  ['apply', { start: () => ({ apply: () => JSON.parse('{') as never }) }],
] as const)(
  'a logits processor whose %s fails, or is asynchronous, ends its request with an error that names it',
  async (method, processor) => {
    let broken = true;
    const engine = await startTiny(
      {},
      withPlugin((bind) =>
        bind.many(LogitsProcessors).toConstantValue({ name: 'breaks', start: () => (broken ? (processor.start() as never) : null) }),
      ),
    );
    expect(await failureOf(generateIds(engine, request(prompt)))).toMatchObject({
      code: 'GRAFT_LOGITS_PROCESSOR',
      what: expect.stringContaining(`"breaks" failed: ${method}()`),
    });
    broken = false;
    expect(await generateIds(engine, request(prompt))).not.toEqual([]);
  },
);

test.each<[string, PluginDeclaration['bind'] & {}]>([
  ['SchedulerPolicy', (bind) => bind(SchedulerPolicy).toConstantValue({ next: () => 0 } as never)],
  ['LogitsProcessors', (bind) => bind.decorate(LogitsProcessors, () => 5 as never)],
  ['Tokenizers', (bind) => bind.many(Tokenizers).toConstantValue(null as never)],
  ['CheckpointFormats', (bind) => bind.many(CheckpointFormats).toConstantValue({ name: 'mine' } as never)],
  ['WeightPolicy', (bind) => bind(WeightPolicy).toConstantValue({} as never)],
  ['ModelRunner', (bind) => bind(ModelRunner).toConstantValue({} as never)],
  [
    'Lowerings',
    (bind) => {
      bind.many(Lowerings).toConstantValue({ op: 'rmsNorm', platform: 'interpreter', lower: () => [] } as never);
      bind.decorate(Backend, async (inner, services) => (await services.get(Lowerings)) && inner);
    },
  ],
])('an engine does not start where a plugin gives something else as its %s', async (name, bind) => {
  const what = expect.stringContaining(`of ${name} gave`);
  expect(await failureOf(startTiny({}, withPlugin(bind)))).toMatchObject({
    code: 'GRAFT_SERVICE_INVALID',
    what,
    where: expect.stringContaining('"mine"'),
  });
});

const fail = (): never => {
  throw new TypeError('no driver');
};
/** A runner of a plugin, some of whose methods are others. */
function runnerWith(methods: Partial<Record<keyof AnyShapeRunner, unknown>>): PluginDeclaration['bind'] & {} {
  class MyRunner extends AnyShapeRunner {}
  Object.assign(MyRunner.prototype, methods);
  return (bind) => bind(ModelRunner).to(MyRunner);
}

test.each<[string, string, PluginDeclaration['bind'] & {}]>([
  [
    'Backend.compile() returned undefined',
    'mine',
    (bind) => bind.decorate(Backend, () => ({ name: 'mine', compile: () => undefined as never })),
  ],
  ['Backend.compile() threw: no driver', 'mine', (bind) => bind.decorate(Backend, () => ({ name: 'mine', compile: async () => fail() }))],
  [
    'Tokenizers.open() returned an object',
    'open',
    (bind) => bind.many(Tokenizers).toConstantValue({ name: 'mine', open: () => ({}) as never }),
  ],
  ['Tokenizers.open() threw: no driver', 'mine', (bind) => bind.many(Tokenizers).toConstantValue({ name: 'mine', open: fail })],
  [
    'CheckpointFormats.reads() threw',
    'mine',
    (bind) => bind.many(CheckpointFormats).toConstantValue({ ...pack, name: 'mine', reads: fail }),
  ],
  [
    'CheckpointFormats.open() returned undefined',
    'mine',
    (bind) => bind.many(CheckpointFormats).toConstantValue({ name: 'mine', reads: () => true, open: () => undefined as never }),
  ],
  [
    '.weight" threw: no driver',
    'ranking',
    (bind) =>
      bind(WeightPolicy).toConstantValue(function ranking() {
        return fail();
      }),
  ],
  ['.weight" returned a promise', 'plugin "mine"', (bind) => bind(WeightPolicy).toConstantValue((async () => 'float32') as never)],
  ['.weight" gave int3; expected float32', 'plugin "mine"', (bind) => bind(WeightPolicy).toConstantValue((() => 'int3') as never)],
  ['ModelRunner.capture() threw: no driver', 'MyRunner', runnerWith({ capture: fail })],
  ['ModelRunner.compile() threw: no driver', 'MyRunner', runnerWith({ compile: async () => fail() })],
  ['ModelRunner.ready() threw: no driver', 'MyRunner', runnerWith({ ready: fail })],
])('an engine does not start where a service of a plugin fails, or gives what cannot be used: %s', async (text, where, bind) => {
  const error = await failureOf(startTiny({ weights: 'auto' }, withPlugin(bind)));
  expect(error).toMatchObject({
    code: 'GRAFT_SERVICE_CALL',
    what: expect.stringContaining(text),
    where: expect.stringContaining(where),
  });
});

test.each<[string, object]>([
  ['threw: no driver', { run: async () => fail() }],
  ['threw: no driver', { run: fail }],
  ['returned undefined, which has no "logits"', { run: async () => undefined }],
])('a step of a plugin’s runner that %s ends its request with an error that names the runner', async (text, methods) => {
  const engine = await startTiny({}, withPlugin(runnerWith(methods)));
  const answer = generateIds(engine, request(prompt));
  await expect(answer).rejects.toMatchObject({
    code: 'GRAFT_SERVICE_CALL',
    what: `ModelRunner.run() ${text}.`,
    where: 'MyRunner of plugin "mine" (passed in code)',
  });
});
