import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Engine, startEngineWorker } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { createApp } from './app.ts';

/** The routes over the real engine in its worker, on the reference case `dense-tiny` (no tokenizer: prompts are token ids). */
const model = fileURLToPath(new URL('../../../tests/parity/cases/dense-tiny', import.meta.url));
let engine: Engine;
let app: FastifyInstance;

beforeAll(async () => {
  engine = await startEngineWorker({ model, plugins: ['@graft/cpu'], maxSequences: 2 });
  app = createApp(engine);
});
afterAll(async () => {
  await app?.close();
  await engine?.close();
});

const complete = (body: object) =>
  app.inject({ method: 'POST', url: '/v1/completions', payload: { prompt: [1, 2, 3], max_tokens: 8, ...body } });

test('greedy ids do not depend on what else is being served', async () => {
  const ask = async (prompt: unknown, more: object = {}) => (await complete({ prompt, temperature: 0, logprobs: 1, ...more })).json();
  const alone = (await ask([1, 2, 3])).choices[0].logprobs.tokens;
  const together = await ask([[1, 2, 3], [9, 8], [7], [1, 2, 3]]);
  expect(alone.length).toBeGreaterThan(0);
  expect(together.choices[0].logprobs.tokens).toEqual(alone);
  expect(together.choices[3].logprobs.tokens).toEqual(alone);
  expect(together.usage.prompt_tokens).toBe(9);
});

test('a prompt longer than the context, a token that does not exist, and text without a tokenizer are refused', async () => {
  const { maxModelLength, vocabSize } = engine.info;
  const refusal = async (body: object) => {
    const response = await complete(body);
    return [response.statusCode, response.json().error.code];
  };
  expect(await refusal({ prompt: Array(maxModelLength + 1).fill(1) })).toEqual([400, 'context_length_exceeded']);
  expect(await refusal({ prompt: [vocabSize] })).toEqual([400, 'invalid_value']);
  expect(await refusal({ prompt: 'text' })).toEqual([400, 'unsupported_value']);
  expect(await refusal({ prompt: [1], logit_bias: { [vocabSize]: 1 } })).toEqual([400, 'invalid_value']);
  expect((await complete({ temperature: 0 })).statusCode).toBe(200);
});

test('a client that goes away from the real engine frees its slot', async () => {
  const address = await app.listen({ host: '127.0.0.1', port: 0 });
  const abort = new AbortController();
  const request = fetch(`${address}/v1/completions`, {
    method: 'POST',
    signal: abort.signal,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: [1], max_tokens: 100_000, stream: true, ignore_eos: true }),
  });
  const reader = (await request).body!.getReader();
  await reader.read();
  abort.abort();
  await vi.waitFor(async () => expect(await engine.stats()).toMatchObject({ running: 0, waiting: 0, freeSlots: 2 }), { timeout: 5000 });
});

test('other weights are served after a reload over HTTP, and a broken checkpoint leaves the old ones', async () => {
  const guarded = createApp(engine, { apiKey: 'secret', enableReload: true });
  const reload = (path: string) =>
    guarded.inject({ method: 'POST', url: '/admin/reload', headers: { authorization: 'Bearer secret' }, payload: { model: path } });
  const greedy = async () => (await complete({ temperature: 0, logprobs: 1 })).json().choices[0].logprobs;
  const before = await greedy();
  const done = await reload(model);
  expect([done.statusCode, done.json()]).toEqual([200, expect.objectContaining({ object: 'reload', model, weights: 'float32' })]);
  expect(await greedy()).toEqual(before);
  const refused = await reload(`${model}/nothing`);
  expect(refused.statusCode).toBe(400);
  expect(refused.json().error).toMatchObject({
    code: 'invalid_checkpoint',
    param: 'model',
    message: expect.stringContaining('dense-tiny/nothing'),
  });
  expect(await greedy()).toEqual(before);
  await guarded.close();
});

/** A copy of the case with a tokenizer of single characters, a chat template and a generation_config.json. */
async function chatModel(template: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'graft-routes-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await cp(model, folder, { recursive: true });
  const characters = [...Array.from({ length: 94 }, (_, index) => String.fromCharCode(33 + index)), '\u0120', '\u010a']; // space and line break
  const tokenizer = {
    version: '1.0',
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', unk_token: null, vocab: Object.fromEntries(characters.map((one, id) => [one, id])), merges: [] },
  };
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify({ chat_template: template }));
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ temperature: 0, top_k: 5 }));
  return folder;
}

test("a chat with tools goes through the model's template and defaults; where the template fails, the answer is a 400 with its line", async () => {
  const template = "{% for m in messages %}{{ m.content.strip('-') }}{% endfor %}\n{{ tools[0].function.name }}";
  const own = await startEngineWorker({ model: await chatModel(template), plugins: ['@graft/cpu'], servedModelName: 'tiny' });
  const served = createApp(own);
  onTestFinished(async () => {
    await served.close();
    await own.close();
  });
  const chat = (body: object) =>
    served.inject({
      method: 'POST',
      url: '/v1/chat/completions',
      payload: { messages: [{ role: 'user', content: '--hi-' }], max_tokens: 4, ...body },
    });
  const tools = [{ type: 'function', function: { name: 'clock' } }];
  const [first, second] = [await chat({ tools }), await chat({ tools })];
  expect([first.statusCode, first.json().usage.prompt_tokens]).toEqual([200, 'hiclock'.length]);
  expect(second.json().choices).toEqual(first.json().choices); // greedy, by generation_config.json
  expect((await served.inject('/v1/models')).json().data[0].generation_config).toEqual({ temperature: 0, top_k: 5 });
  const failed = await chat({});
  expect(failed.statusCode).toBe(400);
  expect(failed.json().error.message).toContain('in line 2: {{ tools[0].function.name }}');
});
