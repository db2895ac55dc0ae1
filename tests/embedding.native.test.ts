// docs/embedding.md, over real HTTP: an engine in routes of one's own, and the whole server mounted in another application.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type Engine, LlmEngine, startEngineWorker } from '@graft/engine';
import { createApp, mount } from '@graft/server';
import express, { type Express } from 'express';
import Fastify, { type FastifyInstance } from 'fastify';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';

const model = fileURLToPath(new URL('./parity/cases/dense-tiny', import.meta.url));
const config = {
  model,
  plugins: ['@graft/cpu'],
  maxSequences: 2,
  threads: 1,
  maxModelLength: 8192,
  configOverrides: { max_position_embeddings: 8192 },
};
const prompt = { tokenIds: [1, 2, 3] };
const long = { maxTokens: 100_000, ignoreEos: true };

async function listen(app: Express): Promise<string> {
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

async function listenWith(app: FastifyInstance): Promise<string> {
  onTestFinished(() => app.close());
  return await app.listen({ host: '127.0.0.1', port: 0 });
}

const post = (url: string, body: object, signal?: AbortSignal): Promise<Response> =>
  fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    ...(signal !== undefined && { signal }),
  });

/** Begins a request, and goes away when it runs in the engine: for a stream, after its first piece. */
async function goAway(engine: Engine, url: string, body: object, streams: boolean): Promise<void> {
  const client = new AbortController();
  const request = post(url, body, client.signal);
  request.catch(() => undefined);
  if (streams) await (await request).body!.getReader().read();
  await expect.poll(() => engine.stats()).toMatchObject({ running: 1, freeSlots: 1 });
  client.abort();
  await expect.poll(() => engine.stats()).toMatchObject({ running: 0, waiting: 0, freeSlots: 2 });
}

/** An answer and a stream as routes of Express. */
function inExpress(engine: Engine): Promise<string> {
  const app = express().use(express.json());
  app.post('/answer', async (request, response) => {
    const client = new AbortController();
    response.on('close', () => client.abort());
    let ids: number[] = [];
    for await (const { tokenIds } of engine.generate(request.body, { signal: client.signal })) ids = [...ids, ...tokenIds];
    response.json({ ids });
  });
  app.post('/stream', async (request, response) => {
    const client = new AbortController();
    response.on('close', () => client.abort());
    response.type('application/x-ndjson');
    for await (const delta of engine.generate(request.body, { signal: client.signal })) response.write(`${JSON.stringify(delta)}\n`);
    response.end();
  });
  app.use(((error, _request, response, next) => {
    if (response.headersSent || response.destroyed) next(error);
    else response.status(400).json({ code: error.code, message: error.message });
  }) as express.ErrorRequestHandler);
  return listen(app);
}

/** The same routes in Fastify. */
function inFastify(engine: Engine): Promise<string> {
  const app = Fastify({ forceCloseConnections: true });
  const deltas = async function* (request: { body: unknown }, reply: { raw: NodeJS.EventEmitter }) {
    const client = new AbortController();
    reply.raw.on('close', () => client.abort());
    yield* engine.generate(request.body as Parameters<Engine['generate']>[0], { signal: client.signal });
  };
  app.post('/answer', async (request, reply) => {
    const ids: number[] = [];
    for await (const { tokenIds } of deltas(request, reply)) ids.push(...tokenIds);
    return { ids };
  });
  app.post('/stream', async (request, reply) => {
    const lines = async function* () {
      for await (const delta of deltas(request, reply)) yield `${JSON.stringify(delta)}\n`;
    };
    return reply.type('application/x-ndjson').send(Readable.from(lines()));
  });
  app.setErrorHandler((error: Error & { code?: string }, _request, reply) =>
    reply.code(400).send({ code: error.code, message: error.message }),
  );
  return listenWith(app);
}

describe.each([
  ['LlmEngine in Express', () => LlmEngine.start(config), inExpress],
  ['LlmEngine in Fastify', () => LlmEngine.start(config), inFastify],
  ['a worker in Express', () => startEngineWorker(config), inExpress],
])('%s', (_name, start, serve) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await start();
    return () => engine.close();
  });

  test('answers and streams the same tokens', async () => {
    const url = await serve(engine);
    const body = { prompt, sampling: { temperature: 0, maxTokens: 6, ignoreEos: true } };
    const { ids } = (await (await post(`${url}/answer`, body)).json()) as { ids: number[] };
    expect(ids).toHaveLength(6);
    const lines = (await (await post(`${url}/stream`, body)).text()).trim().split('\n');
    const deltas = lines.map((line) => JSON.parse(line) as { tokenIds: number[]; finishReason: string | null });
    expect(deltas.flatMap(({ tokenIds }) => tokenIds)).toEqual(ids);
    expect(deltas.at(-1)!.finishReason).toBe('length');
  });

  test('an error of the engine reaches the error handler of the application', async () => {
    const response = await post(`${await serve(engine)}/answer`, { prompt, temperature: 0.5 });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'GRAFT_INVALID_REQUEST', message: /sampling: { temperature: ... }/ });
  });

  test('a client that goes away aborts its answer or stream, and frees the slot', async () => {
    const url = await serve(engine);
    await goAway(engine, `${url}/answer`, { prompt, sampling: long }, false);
    await goAway(engine, `${url}/stream`, { prompt, sampling: long }, true);
  });
});

/** `createApp` under /llm, and the application around it. */
interface Mounted {
  url: string;
  app: FastifyInstance;
}

const mountings: [string, (app: FastifyInstance) => Promise<string>][] = [
  [
    'Express',
    async (app) => {
      await app.ready();
      const host = express();
      host.get('/own', (_request, response) => void response.send('own'));
      return listen(host.use('/llm', (request, response) => app.routing(request, response)));
    },
  ],
  [
    'Express, after express.json()',
    async (app) => {
      await app.ready();
      const host = express().use(express.json());
      host.get('/own', (_request, response) => void response.send('own'));
      return listen(host.use('/llm', (request, response) => app.routing(request, response)));
    },
  ],
  [
    'Fastify',
    async (app) => {
      const host = Fastify({ forceCloseConnections: true });
      host.get('/own', async () => 'own');
      await host.register(mount(app), { prefix: '/llm' });
      return listenWith(host);
    },
  ],
];

describe.each(mountings)('createApp in %s', (_name, mountIn) => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await LlmEngine.start(config);
  });
  afterAll(() => engine?.close());

  async function start(apiKey?: string): Promise<Mounted> {
    const app = createApp(engine, apiKey === undefined ? {} : { apiKey });
    onTestFinished(() => app.close());
    return { app, url: await mountIn(app) };
  }
  const asked = { prompt: [1, 2, 3], temperature: 0, max_tokens: 4, ignore_eos: true, logprobs: 0 }; // without a tokenizer, only log-probabilities make an event

  test('serves its routes under the prefix, next to those of the application', async () => {
    const { url } = await start();
    expect(await (await fetch(`${url}/own`)).text()).toBe('own');
    expect(await (await fetch(`${url}/llm/health`)).json()).toMatchObject({ status: 'ok' });
    expect((await fetch(`${url}/llm/`)).headers.get('content-type')).toMatch('text/html');
    expect((await fetch(`${url}/v1/models`)).status).toBe(404);
    const answer = await post(`${url}/llm/v1/completions`, asked);
    expect(await answer.json()).toMatchObject({ object: 'text_completion', usage: { completion_tokens: 4 } });
    const stream = await (await post(`${url}/llm/v1/completions`, { ...asked, stream: true })).text();
    expect(stream).toMatch(/^data: \{[\s\S]*data: \[DONE\]\n\n$/);
  });

  test('answers errors in its own shape, and asks for its API key under the prefix as well', async () => {
    const { url } = await start('secret');
    expect((await fetch(`${url}/llm/v1/models`)).status).toBe(401);
    const wrong = await fetch(`${url}/llm/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: 'Bearer secret' },
      body: JSON.stringify({ ...asked, temprature: 1 }),
    });
    expect([wrong.status, await wrong.json()]).toMatchObject([400, { error: { type: 'invalid_request_error' } }]);
    expect(await (await fetch(`${url}/llm/v2`)).json()).toMatchObject({ error: { code: 'unknown_url' } });
    expect(await (await fetch(`${url}/llm/v1/completions`)).json()).toMatchObject({ error: { code: 'method_not_allowed' } });
  });

  test('a client that goes away aborts its answer or stream, and frees the slot', async () => {
    const { url } = await start();
    const body = { ...asked, max_tokens: 100_000 };
    await goAway(engine, `${url}/llm/v1/completions`, body, false);
    await goAway(engine, `${url}/llm/v1/completions`, { ...body, stream: true }, true);
  });

  test('closing it ends a running stream with an error event, and then refuses requests', async () => {
    const { url, app } = await start();
    const stream = await post(`${url}/llm/v1/completions`, { ...asked, max_tokens: 100_000, stream: true });
    const text = stream.text();
    await expect.poll(() => engine.stats()).toMatchObject({ running: 1 });
    await app.close();
    expect(await text).toMatch(/"code":"shutting_down"/);
    expect((await fetch(`${url}/llm/health`)).status).toBe(503);
    expect((await fetch(`${url}/own`)).status).toBe(200);
  });
});
