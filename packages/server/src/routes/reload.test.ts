import { GraftError } from '@graft/common';
import type { Engine, ReloadReport } from '@graft/engine';
import { expect, onTestFinished, test } from 'vitest';
import { scriptedEngine } from '../../test/scripted-engine.ts';
import { createApp } from '../app.ts';

const report: ReloadReport = {
  model: '/new',
  weights: 'float32',
  parameters: 3,
  bytes: 12,
  fromCache: false,
  hooks: [],
  renames: [],
  timings: { load: 1 },
};

function start(reload: Engine['reloadWeights'] = async () => report) {
  const app = createApp(scriptedEngine({ reload }), { apiKey: 'secret', enableReload: true });
  onTestFinished(() => app.close());
  const post = (body: object | string, key = 'secret', url = '/admin/reload') =>
    app.inject({ method: 'POST', url, headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, payload: body });
  return { app, post };
}

test('a reload is asked of the engine, and answered with its report', async () => {
  const asked: string[] = [];
  const { post } = start(async (model) => {
    asked.push(model);
    return report;
  });
  const response = await post({ model: '/new' });
  expect([response.statusCode, response.json()]).toEqual([200, { object: 'reload', ...report }]);
  expect(asked).toEqual(['/new']);
});

test('it does not exist unless it is enabled', async () => {
  const app = createApp(scriptedEngine(), { apiKey: 'secret' });
  const response = await app.inject({
    method: 'POST',
    url: '/admin/reload',
    headers: { authorization: 'Bearer secret' },
    payload: { model: '/new' },
  });
  expect([response.statusCode, response.json().error.code]).toEqual([404, 'unknown_url']);
});

test.each([{}, { apiKey: '' }, { apiKey: '  ' }])('without a key it is refused before the server exists: %o', (options) => {
  expect(() => createApp(scriptedEngine(), { ...options, enableReload: true })).toThrow(
    expect.objectContaining({ code: 'GRAFT_RELOAD_WITHOUT_KEY', where: '--enable-reload' }),
  );
});

test('it asks for the key, whatever the spelling of the path, and another key is refused', async () => {
  let reloads = 0;
  const { app, post } = start(async () => {
    reloads++;
    return report;
  });
  for (const url of ['/admin/reload', '/admin/reload/', '/%61dmin/reload', '/admin/%72eload']) {
    expect([url, (await app.inject({ method: 'POST', url, payload: { model: '/new' } })).statusCode]).toEqual([url, 401]);
    expect([url, (await post({ model: '/new' }, 'wrong', url)).statusCode]).toEqual([url, 401]);
  }
  expect(reloads).toBe(0);
});

test.each<[string, object | string, string]>([
  ['no model', {}, "Invalid value for 'model'"],
  ['a model that is not a string', { model: 3 }, "Invalid value for 'model'"],
  ['an empty path', { model: '' }, "Invalid value for 'model'"],
  ['an unknown key', { model: '/new', force: true }, 'force'],
  ['broken JSON', '{', 'not valid JSON'],
])('a body with %s is a 400 in OpenAI’s shape', async (_, body, words) => {
  const { post } = start();
  const response = await post(body);
  expect(response.statusCode).toBe(400);
  expect(response.json().error).toMatchObject({ type: 'invalid_request_error', message: expect.stringContaining(words) });
});

test.each<[string, number, object]>([
  ['GRAFT_CHECKPOINT_MISSING_TENSOR', 400, { type: 'invalid_request_error', code: 'invalid_checkpoint', param: 'model' }],
  ['GRAFT_CHECKPOINT_NOT_FOUND', 400, { type: 'invalid_request_error', code: 'invalid_checkpoint', param: 'model' }],
  ['GRAFT_WARM_UP', 400, { type: 'invalid_request_error', code: 'invalid_checkpoint', param: 'model' }],
  ['GRAFT_RELOAD_CONFIG', 400, { type: 'invalid_request_error', code: 'invalid_checkpoint', param: 'model' }],
  ['GRAFT_RELOAD_BUSY', 409, { type: 'invalid_request_error', code: 'reload_busy' }],
  ['GRAFT_HOOK_FAILED', 500, { type: 'server_error', code: 'GRAFT_HOOK_FAILED' }],
  ['GRAFT_ENGINE_CLOSED', 503, { type: 'server_error', code: 'engine_closed' }],
])('the engine error %s is answered with a %i that says it', async (code, status, error) => {
  const { post } = start(async () => {
    throw new GraftError({ code: code as `GRAFT_${string}`, what: 'It is so.', where: '/new, tensor "a"', fix: 'Mend it.' });
  });
  const response = await post({ model: '/new' });
  expect(response.statusCode).toBe(status);
  expect(response.json().error).toMatchObject({ ...error, message: expect.stringMatching(/It is so\..*Mend it\./) });
  if (status === 400) expect(response.json().error.message).toContain('/new, tensor "a"');
});

test('a client that goes away, and the server’s end, abort the reload', async () => {
  const signals: AbortSignal[] = [];
  const { app } = start(
    (_, { signal } = {}) =>
      new Promise((_resolve, reject) => {
        signals.push(signal!);
        signal!.addEventListener('abort', () => reject(signal!.reason));
      }),
  );
  const url = `${await app.listen({ port: 0 })}/admin/reload`;
  const ask = (signal: AbortSignal) =>
    fetch(url, {
      method: 'POST',
      headers: { authorization: 'Bearer secret', 'content-type': 'application/json' },
      body: '{"model":"/new"}',
      signal,
    });
  const leaving = new AbortController();
  const left = ask(leaving.signal).catch(() => 'left');
  await expect.poll(() => signals.length, { interval: 5 }).toBe(1);
  leaving.abort();
  expect(await left).toBe('left');
  await expect.poll(() => signals[0]!.aborted, { interval: 5 }).toBe(true);

  const staying = ask(AbortSignal.timeout(5000));
  await expect.poll(() => signals.length, { interval: 5 }).toBe(2);
  await app.close();
  expect((await staying).status).toBe(503);
});
