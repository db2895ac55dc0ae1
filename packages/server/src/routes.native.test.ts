import { fileURLToPath } from 'node:url';
import { type Engine, startEngineWorker } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
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
