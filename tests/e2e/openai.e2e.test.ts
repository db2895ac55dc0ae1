import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

let server: ServerProcess;
let client: OpenAI;
let model: string;

beforeAll(async () => {
  server = await startServer();
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none is asked', maxRetries: 0 });
  model = (await client.models.list()).data[0]!.id;
});
afterAll(async () => {
  expect(await server.stop()).toBe(0);
});

const capital = [{ role: 'user' as const, content: 'What is the capital of France?' }];

test('the openai client chats', async () => {
  const answer = await client.chat.completions.create({ model, messages: capital, temperature: 0, max_tokens: 32 });
  expect(answer.choices[0]!.message.content).toContain('Paris');
  expect(answer.choices[0]!.finish_reason).toBe('stop');
  expect(answer.usage!.total_tokens).toBe(answer.usage!.prompt_tokens + answer.usage!.completion_tokens);
});

test('the openai client streams, and the pieces are the whole answer', async () => {
  const whole = await client.chat.completions.create({ model, messages: capital, temperature: 0, max_tokens: 32 });
  const stream = await client.chat.completions.create({
    model,
    messages: capital,
    temperature: 0,
    max_tokens: 32,
    stream: true,
    stream_options: { include_usage: true },
  });
  const pieces: string[] = [];
  let usage: OpenAI.CompletionUsage | null | undefined;
  for await (const chunk of stream) {
    const text = chunk.choices[0]?.delta.content;
    if (text) pieces.push(text);
    usage = chunk.usage ?? usage;
  }
  expect(pieces.length).toBeGreaterThan(3);
  expect(pieces.join('')).toBe(whole.choices[0]!.message.content);
  expect(usage).toEqual(whole.usage);
});

test('a seed makes a sampled answer repeatable, and n gives unlike ones', async () => {
  const ask = () =>
    client.chat.completions.create({
      model,
      messages: [{ role: 'user', content: 'Name an animal.' }],
      seed: 5,
      n: 2,
      temperature: 1.5,
      max_tokens: 12,
    });
  const [first, second] = [await ask(), await ask()];
  const texts = first.choices.map((choice) => choice.message.content);
  expect(second.choices.map((choice) => choice.message.content)).toEqual(texts);
  expect(new Set(texts).size).toBe(2);
});

test('log-probabilities come with the tokens that were chosen', async () => {
  const answer = await client.chat.completions.create({
    model,
    messages: capital,
    temperature: 0,
    max_tokens: 32,
    logprobs: true,
    top_logprobs: 3,
  });
  const tokens = answer.choices[0]!.logprobs!.content!;
  for (const token of tokens) {
    expect(token.top_logprobs).toHaveLength(3);
    expect(token.logprob).toBeCloseTo(token.top_logprobs[0]!.logprob, 5);
  }
  expect(tokens.map((token) => token.token).join('')).toContain('Paris');
});

test('text completions take several prompts', async () => {
  const answer = await client.completions.create({
    model,
    prompt: ['The capital of France is', '1, 2, 3, 4,'],
    max_tokens: 8,
    temperature: 0,
  });
  expect(answer.choices).toHaveLength(2);
  expect(answer.choices[0]!.text).toContain('Paris');
  expect(answer.choices[1]!.text).toContain('5');
});

test('a stop string ends the answer before itself', async () => {
  const answer = await client.chat.completions.create({ model, messages: capital, temperature: 0, max_tokens: 32, stop: [' Paris'] });
  expect(answer.choices[0]!.message.content).toMatch(/capital of France is$/);
});

/** Free within one prefill piece; the bound leaves room for a busy machine. */
async function expectAllSlotsFree() {
  await vi.waitFor(
    async () => {
      const { stats, engine } = await server.health();
      expect([stats.running, stats.waiting, stats.freeSlots]).toEqual([0, 0, engine.maxSequences]);
    },
    { timeout: 5000, interval: 20 },
  );
}

test('an aborted stream frees its slot', async () => {
  const stream = await client.chat.completions.create({
    model,
    messages: [{ role: 'user', content: 'Count from 1 to 1000.' }],
    stream: true,
    max_tokens: 4000,
    logit_bias: { '2': -100 },
  });
  let pieces = 0;
  for await (const _ of stream) {
    if (++pieces === 5) expect((await server.health()).stats.running).toBe(1);
    if (pieces === 5) break;
  }
  stream.controller.abort();
  await expectAllSlotsFree();
});

test('a request that is aborted while its long prompt is read frees its slot', async () => {
  const abort = new AbortController();
  const prompt = Array.from({ length: 6000 }, (_, i) => 100 + (i % 1000));
  const request = client.completions.create({ model, prompt, max_tokens: 1 }, { signal: abort.signal });
  await vi.waitFor(async () => expect((await server.health()).stats.running).toBe(1), { timeout: 5000, interval: 10 });
  abort.abort();
  await expect(request).rejects.toThrow(OpenAI.APIUserAbortError);
  await expectAllSlotsFree();
});

test('the client’s own error classes are thrown', async () => {
  const ask = (more: object) => client.chat.completions.create({ model, messages: capital, ...more });
  await expect(ask({ model: 'gpt-4o' })).rejects.toThrow(OpenAI.NotFoundError);
  await expect(ask({ temperature: 5 })).rejects.toThrow(OpenAI.BadRequestError);
  await expect(ask({ messages: [{ role: 'user', content: 'word '.repeat(20_000) }] })).rejects.toMatchObject({
    status: 400,
    code: 'context_length_exceeded',
  });
  expect((await ask({ max_tokens: 2, temperature: 0 })).choices[0]!.finish_reason).toBe('length');
});
