import { connect } from 'node:net';
import { GraftError } from '@graft/common';
import { ChatTemplateFailedError } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { type Script, scriptedEngine } from '../test/scripted-engine.ts';
import { type AppOptions, createApp } from './app.ts';

let app: FastifyInstance | undefined;
afterEach(async () => {
  await app?.close();
  app = undefined;
});

function start(script: Script = {}, options: AppOptions = {}) {
  const engine = scriptedEngine(script);
  app = createApp(engine, options);
  const post = (url: string, body: unknown, headers: Record<string, string> = {}) =>
    app!.inject({ method: 'POST', url, headers: { 'content-type': 'application/json', ...headers }, payload: JSON.stringify(body) });
  const chat = (more: object = {}) => post('/v1/chat/completions', { messages: [{ role: 'user', content: 'hi' }], ...more });
  const text = (more: object = {}) => post('/v1/completions', { prompt: 'hi', ...more });
  return { app, engine, post, chat, text };
}

interface StreamEvent {
  choices: { text?: string; delta?: { content?: string }; finish_reason?: string }[];
  usage?: object | null;
}

/** The events of a stream, `[DONE]` left as it is. */
function events(body: string): (StreamEvent | '[DONE]')[] {
  const lines = body.split('\n\n').filter((line) => line !== '');
  expect(lines.every((line) => line.startsWith('data: '))).toBe(true);
  return lines.map((line) => (line === 'data: [DONE]' ? '[DONE]' : JSON.parse(line.slice(6))));
}

describe('chat completions', () => {
  test('answer with the text, the finish reason and the usage', async () => {
    const { chat } = start();
    const response = await chat({ model: 'scripted' });
    expect(response.statusCode).toBe(200);
    expect(response.json()).toMatchObject({
      object: 'chat.completion',
      model: 'scripted',
      choices: [{ index: 0, message: { role: 'assistant', content: 'Paris.' }, finish_reason: 'stop', logprobs: null }],
      usage: { prompt_tokens: 2, completion_tokens: 3, total_tokens: 5 },
    });
  });

  test('stream the role, the text, the finish reason, the usage and [DONE]', async () => {
    const { chat } = start();
    const response = await chat({ stream: true, stream_options: { include_usage: true } });
    expect(response.headers['content-type']).toBe('text/event-stream; charset=utf-8');
    const all = events(response.body);
    expect(all.at(-1)).toBe('[DONE]');
    const chunks = all.slice(0, -1) as StreamEvent[];
    expect(chunks[0]!.choices[0]!.delta).toMatchObject({ role: 'assistant', content: '' });
    expect(chunks.map((chunk) => chunk.choices[0]?.delta?.content ?? '').join('')).toBe('Paris.');
    expect(chunks.at(-2)!.choices[0]).toMatchObject({ delta: {}, finish_reason: 'stop' });
    expect(chunks.at(-2)!.usage).toBe(null);
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 3 } });
  });

  test('hand the sampling to the engine in its own terms', async () => {
    const { chat, engine } = start();
    const response = await chat({
      temperature: 0,
      top_p: 0.9,
      top_k: 5,
      min_p: 0.1,
      seed: 7,
      stop: 'END',
      max_tokens: 9,
      max_completion_tokens: 2,
      frequency_penalty: 0.5,
      presence_penalty: -0.5,
      logit_bias: { '12': -100 },
      user: 'someone',
      logprobs: true,
      top_logprobs: 2,
    });
    expect(response.statusCode).toBe(200);
    expect(engine.seen[0]!.sampling).toEqual({
      temperature: 0,
      topP: 0.9,
      topK: 5,
      minP: 0.1,
      seed: 7,
      stop: ['END'],
      maxTokens: 2,
      frequencyPenalty: 0.5,
      presencePenalty: -0.5,
      logitBias: { '12': -100 },
      logprobs: 2,
    });
    expect(response.json().choices[0].finish_reason).toBe('length');
    expect(response.json().choices[0].logprobs.content[0]).toEqual({
      token: 'Par',
      logprob: -0.25,
      bytes: [80, 97, 114],
      top_logprobs: [
        { token: 'Par', logprob: -0.25, bytes: [80, 97, 114] },
        { token: 'x', logprob: -2, bytes: [120] },
      ],
    });
  });

  test('hand add_special_tokens to the engine, which decides without it', async () => {
    const { chat, post, engine } = start();
    await chat({ add_special_tokens: true });
    await post('/v1/completions', { prompt: ['a', 'b'], add_special_tokens: false });
    await chat({});
    expect(engine.seen.map(({ prompt }) => ('addSpecialTokens' in prompt ? prompt.addSpecialTokens : 'default'))).toEqual([
      true,
      false,
      false,
      'default',
    ]);
  });

  test('give n choices of one prompt, each with its own seed, and count the prompt once', async () => {
    const { chat, engine } = start();
    const response = await chat({ n: 3, seed: 10 });
    expect(response.json().choices.map((choice: { index: number }) => choice.index)).toEqual([0, 1, 2]);
    expect(response.json().usage).toEqual({ prompt_tokens: 2, completion_tokens: 9, total_tokens: 11 });
    expect(engine.seen.map(({ sampling }) => sampling?.seed)).toEqual([10, 11, 12]);
  });

  test('join text parts and know the developer role as system', async () => {
    const { post, engine } = start();
    const parts = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ];
    const messages = [
      { role: 'developer', content: 'be brief' },
      { role: 'assistant', content: null, refusal: null },
      { role: 'user', content: parts },
    ];
    expect((await post('/v1/chat/completions', { messages })).statusCode).toBe(200);
    expect(engine.seen[0]!.prompt).toEqual({
      messages: [
        { role: 'system', content: 'be brief' },
        { role: 'assistant', content: '' },
        { role: 'user', content: 'ab' },
      ],
    });
  });
});

describe('text completions', () => {
  test.each([
    ['a string', 'hi', [{ text: 'hi' }]],
    ['an array of strings', ['a', 'b'], [{ text: 'a' }, { text: 'b' }]],
    ['token ids', [1, 2], [{ tokenIds: [1, 2] }]],
    ['arrays of token ids', [[1], [2, 3]], [{ tokenIds: [1] }, { tokenIds: [2, 3] }]],
  ])('take %s as the prompt', async (_, prompt, expected) => {
    const { text, engine } = start();
    const response = await text({ prompt });
    expect(response.statusCode).toBe(200);
    expect(engine.seen.map((request) => request.prompt)).toEqual(expected);
    expect(response.json().choices).toHaveLength(expected.length);
  });

  test('default to 16 tokens, as OpenAI does', async () => {
    const { text, engine } = start();
    await text();
    expect(engine.seen[0]!.sampling).toEqual({ maxTokens: 16 });
  });

  test('echo a text prompt, whole and streamed', async () => {
    const { text } = start();
    expect((await text({ echo: true })).json().choices[0].text).toBe('hiParis.');
    const streamed = events((await text({ echo: true, stream: true })).body).slice(0, -1) as StreamEvent[];
    expect(streamed.map((event) => event.choices[0]!.text).join('')).toBe('hiParis.');
  });

  test('give log-probabilities with text offsets', async () => {
    const { text } = start();
    expect((await text({ logprobs: 1 })).json().choices[0].logprobs).toEqual({
      tokens: ['Par', 'is', '.'],
      token_logprobs: [-0.25, -0.25, -0.25],
      top_logprobs: [{ Par: -0.25 }, { is: -0.25 }, { '.': -0.25 }],
      text_offset: [0, 3, 5],
    });
  });
});

test('tools, calls, results and template options of a chat reach the engine in the form that templates take', async () => {
  const { chat, engine } = start();
  const call = (args: unknown) => ({ id: '1', type: 'function', function: { name: 'f', arguments: args } });
  const result = { role: 'tool', tool_call_id: '1', content: '12' };
  const messages = [
    { role: 'user', content: 'hi' },
    { role: 'assistant', content: null, tool_calls: [call('{"a": 1}'), call('not JSON')] },
    result,
  ];
  const tools = [{ type: 'function', function: { name: 'f' } }];
  const more = {
    documents: [{ title: 't' }],
    chat_template: 'rag',
    chat_template_kwargs: { enable_thinking: false },
    reasoning_effort: 'low',
    add_generation_prompt: false,
  };
  expect((await chat({ messages, tools, ...more })).statusCode).toBe(200);
  expect(engine.seen[0]!.prompt).toEqual({
    messages: [messages[0], { role: 'assistant', content: '', tool_calls: [call({ a: 1 }), call('not JSON')] }, result],
    tools,
    documents: more.documents,
    template: 'rag',
    variables: { reasoning_effort: 'low', enable_thinking: false },
    addGenerationPrompt: false,
  });
  await chat({ tools, tool_choice: 'none' });
  expect(engine.seen[1]!.prompt).toEqual({ messages: [{ role: 'user', content: 'hi' }] });
});

test('a template that fails is a 400 that quotes its line', async () => {
  const { chat } = start({
    failAt: { index: 0, error: new ChatTemplateFailedError('a template', new Error('no x'), ', in line 2: {{ x }}') },
  });
  const response = await chat();
  expect([response.statusCode, response.json().error.code]).toEqual([400, 'invalid_value']);
  expect(response.json().error.message).toContain('The chat template failed on these messages: no x, in line 2: {{ x }}.');
});

describe('a request that cannot be served gets one clear error in OpenAI’s shape', () => {
  const user = [{ role: 'user', content: 'hi' }];
  test.each<[string, object, string | null, string]>([
    ['an unknown key', { temprature: 1 }, 'temprature', "Did you mean 'temperature'?"],
    ['a temperature out of range', { temperature: 9 }, 'temperature', "Invalid value for 'temperature'"],
    ['no messages', { messages: undefined }, 'messages', 'messages'],
    ['empty messages', { messages: [] }, 'messages', 'at least one message'],
    ['a message without a role', { messages: [{ content: 'x' }] }, 'messages[0].role', 'messages[0].role'],
    ['a message with a number as content', { messages: [{ role: 'user', content: 5 }] }, 'messages[0].content', 'messages[0].content'],
    ['an image', { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 'messages[0].content[0].image_url', 'needs {"url"'],
    [
      'a tool call without a name',
      { messages: [...user, { role: 'assistant', tool_calls: [{ function: {} }] }] },
      'messages[1].tool_calls[0].function.name',
      'name',
    ],
    ['json output', { response_format: { type: 'json_object' } }, 'response_format', "'json_object' is not served"],
    ['a forced call', { tools: [{ type: 'function' }], tool_choice: 'required' }, 'tool_choice', "'auto' or 'none'"],
    ['tools that are no list', { tools: {} }, 'tools', 'tools'],
    ['audio', { modalities: ['audio'] }, 'modalities', 'text'],
    ['top_logprobs alone', { top_logprobs: 2 }, 'top_logprobs', "'logprobs' is true"],
    ['stream_options alone', { stream_options: { include_usage: true } }, 'stream_options', "'stream' is true"],
    ['an empty stop string', { stop: '' }, 'stop', 'stop'],
    ['words as logit_bias keys', { logit_bias: { cat: 1 } }, 'logit_bias.cat', 'token ids'],
    ['too many choices', { n: 1000 }, 'n', 'n'],
  ])('chat: %s', async (_, more, param, words) => {
    const { chat, engine } = start();
    const response = await chat(more);
    expect(response.statusCode).toBe(400);
    expect(Object.keys(response.json())).toEqual(['error']);
    expect(response.json().error).toMatchObject({ type: 'invalid_request_error', param });
    expect(response.json().error.message).toContain(words);
    expect(engine.seen).toEqual([]);
  });

  test.each<[string, object, string]>([
    ['suffix', { suffix: 'x' }, 'suffix'],
    ['best_of', { best_of: 4 }, 'best_of'],
    ['echo of token ids', { prompt: [1], echo: true }, 'echo'],
    ['echo with logprobs', { echo: true, logprobs: 1 }, 'echo'],
    ['a negative token id', { prompt: [-1] }, 'prompt'],
    ['an object as prompt', { prompt: {} }, 'prompt'],
    ['more choices than one request may have', { prompt: ['a', 'b'], n: 40 }, 'n'],
  ])('text: %s', async (_, more, param) => {
    const { text } = start();
    const response = await text(more);
    expect(response.statusCode).toBe(400);
    expect(response.json().error.param.split('[')[0]).toBe(param);
  });

  test.each([
    ['malformed JSON', '{"messages": [', 'application/json', 400, 'invalid_json'],
    ['an empty body', '', 'application/json', 400, 'invalid_json'],
    ['a body that is an array', '[]', 'application/json', 400, 'invalid_type'],
    ['a body that is null', 'null', 'application/json', 400, 'invalid_type'],
    ['a body that is a string', '"hi"', 'application/json', 400, 'invalid_type'],
    ['a poisoned prototype', '{"__proto__": {"a": 1}}', 'application/json', 400, 'invalid_json'],
    ['a form', 'a=1', 'application/x-www-form-urlencoded', 415, 'unsupported_media_type'],
    ['plain text', '{}', 'text/plain', 415, 'unsupported_media_type'],
    ['10 MB', `{"prompt": "${'x'.repeat(10_000_000)}"}`, 'application/json', 413, 'request_too_large'],
  ])('%s', async (_, payload, type, status, code) => {
    const response = await start().app.inject({ method: 'POST', url: '/v1/completions', headers: { 'content-type': type }, payload });
    expect([response.statusCode, response.json().error.code]).toEqual([status, code]);
  });

  test('an unknown model', async () => {
    const response = await start().chat({ model: 'gpt-4' });
    expect(response.statusCode).toBe(404);
    expect(response.json().error).toMatchObject({ code: 'model_not_found', param: 'model' });
    expect(response.json().error.message).toContain("'gpt-4'");
  });

  test.each([false, true])('a prompt longer than the context (stream: %s)', async (stream) => {
    const response = await start().chat({ messages: [{ role: 'user', content: 'x'.repeat(5000) }], stream });
    expect(response.statusCode).toBe(400);
    expect(response.json().error).toMatchObject({ type: 'invalid_request_error', code: 'context_length_exceeded' });
  });

  test('a wrong method and an unknown path', async () => {
    const { app } = start();
    const wrong = await app.inject({ method: 'GET', url: '/v1/chat/completions' });
    expect([wrong.statusCode, wrong.headers['allow'], wrong.json().error.code]).toEqual([405, 'POST', 'method_not_allowed']);
    const unknown = await app.inject({ method: 'GET', url: '/v1/nothing?x=1' });
    expect([unknown.statusCode, unknown.json().error.code]).toEqual([404, 'unknown_url']);
    const badPath = await app.inject({ method: 'GET', url: '/v1/models/%ff' });
    expect([badPath.statusCode, badPath.json().error.type]).toEqual([400, 'invalid_request_error']);
  });

  test('an engine that fails before its first token is a 500 that keeps a known error’s words and hides an unknown one’s', async () => {
    const known = new GraftError({ code: 'GRAFT_DISK_FULL', what: 'The disk is full.', fix: 'free some space.' });
    expect((await start({ failAt: { index: 0, error: known } }).chat()).json().error).toEqual({
      message: 'The disk is full. free some space.',
      type: 'server_error',
      param: null,
      code: 'GRAFT_DISK_FULL',
    });
    const unknown = await start({ failAt: { index: 0, error: new Error('/secret/path') } }).chat({ stream: true });
    expect(unknown.statusCode).toBe(500);
    expect(unknown.body).not.toContain('secret');
  });

  test('an engine that fails in mid-stream sends an error event and ends the stream without [DONE]', async () => {
    const error = new GraftError({ code: 'GRAFT_RUN_FAILED', what: 'The run failed.' });
    const { chat, engine } = start({ failAt: { index: 1, error } });
    const response = await chat({ stream: true });
    expect(response.statusCode).toBe(200);
    expect(events(response.body).at(-1)).toEqual({
      error: { message: 'The run failed.', type: 'server_error', param: null, code: 'GRAFT_RUN_FAILED' },
    });
    expect((await engine.stats()).freeSlots).toBe(8);
  });
});

/** A bound for a machine that is busy; the condition itself ends the wait. */
const patiently = { timeout: 10_000, interval: 5 };

describe('a client that goes away frees its slots at once', () => {
  const long = { tokens: Array.from({ length: 10_000 }, (_, i) => `${i} `), delayMs: 5 };
  test.each([
    ['streamed', { stream: true }],
    ['not streamed', {}],
    ['not streamed, three choices', { n: 3 }],
  ])('%s', async (_, more) => {
    const { app, engine } = start(long);
    const address = await app.listen({ host: '127.0.0.1', port: 0 });
    const abort = new AbortController();
    const request = fetch(`${address}/v1/chat/completions`, {
      method: 'POST',
      signal: abort.signal,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ messages: [{ role: 'user', content: 'hi' }], ...more }),
    }).then((response) => response.text());
    await vi.waitFor(async () => expect((await engine.stats()).generationTokens).toBeGreaterThan(3), patiently);
    expect((await engine.stats()).freeSlots).toBeLessThan(8);
    abort.abort();
    await expect(request).rejects.toThrow();
    await vi.waitFor(async () => expect((await engine.stats()).freeSlots).toBe(8), patiently);
  });

  test('closing the application ends a running stream with an error event', async () => {
    const { app, engine } = start(long);
    const address = await app.listen({ host: '127.0.0.1', port: 0 });
    const request = fetch(`${address}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: 'hi', stream: true, max_tokens: 10_000 }),
    }).then((response) => response.text());
    await vi.waitFor(async () => expect((await engine.stats()).generationTokens).toBeGreaterThan(3), patiently);
    await app.close();
    expect(events(await request).at(-1)).toMatchObject({ error: { code: 'shutting_down' } });
    expect((await engine.stats()).freeSlots).toBe(8);
  });
});

test('a client that reads slowly holds the generation back', async () => {
  // More than any socket takes in, in few pieces: 100 KB each, over a kernel's buffers of a few MB.
  const { app, engine } = start({ tokens: new Array<string>(5000).fill('x'.repeat(100_000)) });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const body = JSON.stringify({ prompt: 'hi', stream: true, max_tokens: 5000 });
  const socket = connect((app.server.address() as { port: number }).port, '127.0.0.1');
  socket.pause();
  socket.write(
    `POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  await vi.waitFor(async () => expect((await engine.stats()).generationTokens).toBeGreaterThan(10), patiently);
  let before = -1;
  await vi.waitFor(
    async () => {
      const now = (await engine.stats()).generationTokens;
      const held = now === before;
      before = now;
      expect(held).toBe(true);
    },
    { timeout: 10_000, interval: 100 },
  );
  expect(before).toBeLessThan(2500);
  socket.destroy();
  await vi.waitFor(async () => expect((await engine.stats()).freeSlots).toBe(8), patiently);
});

test('a body of 10 MB over a real connection is answered with 413 and the server goes on', async () => {
  const { app } = start();
  const address = await app.listen({ host: '127.0.0.1', port: 0 });
  const post = (prompt: string) =>
    fetch(`${address}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt }),
    });
  expect((await post('x'.repeat(10_000_000))).status).toBe(413);
  expect((await post('hi')).status).toBe(200);
});

describe('models and health', () => {
  test('list the one model, and find it by its id, slashes included', async () => {
    const { app } = start({ info: { model: 'org/scripted' } });
    const list = (await app.inject('/v1/models')).json();
    expect(list.data.map((model: { id: string }) => model.id)).toEqual(['org/scripted']);
    expect((await app.inject('/v1/models/org/scripted')).json()).toMatchObject({
      id: 'org/scripted',
      object: 'model',
      created: 1795478400,
    });
    expect((await app.inject('/v1/models/other')).json().error.code).toBe('model_not_found');
  });

  test("tell the defaults of requests in the words of the model's generation_config.json", async () => {
    const { app } = start({ info: { generationDefaults: { sampling: { temperature: 0.6, topP: 0.9 }, eosTokenIds: [2] } } });
    const [model] = (await app.inject('/v1/models')).json().data;
    expect(model.generation_config).toEqual({ temperature: 0.6, top_p: 0.9, eos_token_id: [2] });
  });

  test('health tells the engine and its counts', async () => {
    const health = (await start().app.inject('/health')).json();
    expect(health).toMatchObject({ status: 'ok', engine: { modelClass: 'Llama4ForCausalLM' }, stats: { freeSlots: 8 } });
  });

  test('health has the latest recompiles, each with its guard, both values and the stall', async () => {
    const { app, engine } = start();
    const failures = [{ guard: 'self_attn.attn', expected: 'Attention', actual: 'Chunked' }];
    const recompile = { at: '2026-01-01T00:00:00.000Z', region: 'decoder-layer', path: 'layers.3', failures, stallMs: 120 };
    const stats = { ...(await engine.stats()), recompiles: 1, recentRecompiles: [recompile] };
    engine.stats = async () => stats;
    expect((await app.inject('/health')).json().stats).toMatchObject({ recompiles: 1, recentRecompiles: [recompile] });
  });
});

describe('security', () => {
  test('with a key, /v1 asks for it, and health says no more than the status', async () => {
    const { app } = start({}, { apiKey: 'secret' });
    const get = (url: string, key?: string) =>
      app.inject({ url, ...(key === undefined ? {} : { headers: { authorization: `Bearer ${key}` } }) });
    expect((await get('/v1/models')).json().error).toMatchObject({ code: 'invalid_api_key' });
    expect((await get('/v1/models', 'wrong')).statusCode).toBe(401);
    expect((await get('/v1/models', 'secret')).statusCode).toBe(200);
    expect((await get('/health')).json()).toEqual({ status: 'ok' });
    expect((await get('/health', 'secret')).json()).toHaveProperty('engine');
    expect((await get('/')).statusCode).toBe(200);
  });

  test.each(['/v1//models', '//v1/models', '/V1/models', '/%761/models', '/./v1/models'])(
    'no spelling of a path goes round the key: %s',
    async (url) => {
      expect((await start({}, { apiKey: 'secret' }).app.inject({ url })).statusCode).not.toBe(200);
    },
  );

  test('a request for another host name is refused where hosts are given', async () => {
    const { app } = start({}, { allowedHosts: ['localhost', '127.0.0.1', '[::1]'] });
    const status = async (host: string) => (await app.inject({ url: '/v1/models', headers: { host } })).statusCode;
    expect(await status('localhost:8000')).toBe(200);
    expect(await status('[::1]:8000')).toBe(200);
    expect(await status('evil.example')).toBe(403);
  });

  test('another site may not call unless its origin is allowed', async () => {
    const preflight = (app: FastifyInstance) =>
      app.inject({
        method: 'OPTIONS',
        url: '/v1/chat/completions',
        headers: { origin: 'https://a.example', 'access-control-request-method': 'POST' },
      });
    const closed = await preflight(start().app);
    expect(closed.statusCode).toBe(405);
    expect(closed.headers).not.toHaveProperty('access-control-allow-origin');
    const open = await preflight(start({}, { allowedOrigins: ['https://a.example'] }).app);
    expect([open.statusCode, open.headers['access-control-allow-origin']]).toEqual([204, 'https://a.example']);
  });

  test('the page allows no inline script and nothing from elsewhere', async () => {
    const { app } = start();
    const page = await app.inject('/');
    expect(page.headers['content-type']).toContain('text/html');
    expect(page.headers['content-security-policy']).toContain("script-src 'self'");
    expect(page.body).not.toMatch(/<script(?![^>]*\bsrc=)|\son\w+=|style=|https?:\/\//);
    const links = [...page.body.matchAll(/(?:src|href)="(\/[^"]*)"/g)].map((match) => match[1]!);
    expect(links.length).toBeGreaterThan(2);
    for (const url of [...links, '/vendor/marked.js', '/vendor/dompurify.js']) expect((await app.inject(url)).statusCode).toBe(200);
  });
});
