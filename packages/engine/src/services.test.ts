import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CheckpointFormat, readSafetensorsHeader } from '@graft/core-model';
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
  startTiny,
  temporaryFolder,
  textOf,
} from './engine.fixture.ts';
import { watch } from './interpreter-plugin.fixture.ts';
import { Backend, CheckpointFormats, LogitsProcessors, ModelRunner, SchedulerPolicy, Tokenizers, WeightPolicy } from './tokens.ts';

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
  const bytes = (id: number) => new TextEncoder().encode(`<${id}>`);
  const tokenizer = {
    eosTokenIds: [],
    encode: (text: string) => Array.from(text, (character) => character.charCodeAt(0)),
    leastTokens: () => 0,
    decode: (ids: readonly number[]) => ids.map((id) => `<${id}>`).join(''),
    piece: (id: number) => ({ bytes: bytes(id), special: false }),
  };
  const format = { name: 'characters', open: () => tokenizer };
  const engine = await startTiny(
    {},
    withPlugin((bind) => bind.many(Tokenizers).toConstantValue(format)),
  );
  expect(await engine.tokenize('ab')).toEqual([97, 98]);
  const deltas = await collect(engine.generate(request({ text: 'ab' })));
  expect(textOf(deltas)).toBe(tokenizer.decode(await generateIds(engine, request([97, 98]))));
  expect(idsOf(deltas)).toHaveLength(6);
});

test('a plugin’s scheduler policy decides who is next, and how long the pieces of a prompt are', async () => {
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
])('an engine does not start where a plugin gives something else as its %s', async (name, bind) => {
  const what = expect.stringContaining(`of ${name} gave`);
  expect(await failureOf(startTiny({}, withPlugin(bind)))).toMatchObject({
    code: 'GRAFT_SERVICE_INVALID',
    what,
    where: expect.stringContaining('"mine"'),
  });
});

test.each<[string, PluginDeclaration['bind'] & {}]>([
  ['Backend.compile() gave undefined', (bind) => bind.decorate(Backend, () => ({ name: 'mine', compile: async () => undefined as never }))],
  ['Tokenizers gave an object', (bind) => bind.many(Tokenizers).toConstantValue({ name: 'mine', open: () => ({}) as never })],
])('an engine does not start where a service of a plugin gives what cannot be used: %s', async (text, bind) => {
  const what = expect.stringContaining(text);
  expect(await failureOf(startTiny({}, withPlugin(bind)))).toMatchObject({ code: 'GRAFT_PLUGIN_RESULT', what });
});
