import type { FastifyInstance } from 'fastify';
import { afterEach, expect, test } from 'vitest';
import { type Script, scriptedEngine } from '../../test/scripted-engine.ts';
import { type AppOptions, createApp } from '../app.ts';

const apps: FastifyInstance[] = [];
afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
});

function start(script: Script = {}, options: AppOptions = {}) {
  const engine = scriptedEngine(script);
  const app = createApp(engine, options);
  apps.push(app);
  const text = (more: object = {}) => app.inject({ method: 'POST', url: '/v1/completions', payload: { prompt: 'hi', ...more } });
  const metrics = async () => samplesOf((await app.inject('/metrics')).body);
  return { app, engine, text, metrics };
}

/** Prometheus's text: each sample with its labels, as it stands. */
function samplesOf(page: string): Map<string, number> {
  const lines = page.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]));
}

test('/metrics gives the counts of the engine as it is asked, each with its type and a help text', async () => {
  const { app, text, metrics } = start();
  await text();
  const response = await app.inject('/metrics');
  expect(response.headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/);
  const { body } = response;
  expect(body).toMatch(/# HELP graft_recompiles_total .+\n# TYPE graft_recompiles_total counter\ngraft_recompiles_total 0\n/);
  expect(samplesOf(body).get('graft_generation_tokens_total')).toBe(3);
  await text();
  const samples = await metrics();
  expect(samples.get('graft_generation_tokens_total')).toBe(6); // the count itself, and not what was added to the last page's
  expect(Object.fromEntries(samples)).toMatchObject({ graft_captures_total: 1, graft_slots_free: 8, graft_engine_up: 1 });
  expect([...samples.keys()]).toEqual(
    expect.arrayContaining([
      'graft_compiles_total',
      'graft_graph_optimisations_total',
      'graft_recipes_total',
      'graft_warm_up_seconds',
      'graft_computed_tokens_total',
      'graft_padded_tokens_total',
    ]),
  );
  const named = [...body.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name);
  expect([...body.matchAll(/^# HELP (\S+) \S/gm)].map(([, name]) => name)).toEqual(named);
});

test('the served model is in the labels of graft_info', async () => {
  const { metrics } = start({ info: { platform: 'hpu', device: 'emulated', modelClass: 'HpuLlama4ForCausalLM' } });
  const info = [...(await metrics())].find(([name]) => name.startsWith('graft_info'));
  expect(info![1]).toBe(1);
  expect(info![0]).toContain('platform="hpu",device="emulated"');
  expect(info![0]).toContain('model_class="HpuLlama4ForCausalLM"');
});

test('requests are counted by the pattern of their route and their status, refused ones and streams too', async () => {
  const { app, text, metrics } = start();
  await text();
  await text({ stream: true });
  await text({ temprature: 1 });
  await app.inject('/v1/models/another/one');
  await app.inject('/made-up');
  await app.inject('/%zz'); // no URL
  const samples = await metrics();
  const count = (method: string, route: string, status: number) =>
    samples.get(`graft_http_requests_total{method="${method}",route="${route}",status="${status}"}`);
  expect(count('POST', '/v1/completions', 200)).toBe(2);
  expect(count('POST', '/v1/completions', 400)).toBe(1);
  expect(count('GET', '/v1/models/*', 404)).toBe(1);
  expect(count('GET', 'unmatched', 404)).toBe(1);
  expect(count('GET', 'unmatched', 400)).toBe(1);
  expect(samples.get('graft_http_request_duration_seconds_count{method="POST",route="/v1/completions"}')).toBe(3);
});

test('the times of an answer are measured by the engine', async () => {
  const { text, metrics } = start({ delayMs: 30 });
  await text();
  await text({ max_tokens: 1 });
  const samples = await metrics();
  expect(samples.get('graft_time_to_first_token_seconds_count')).toBe(2);
  expect(samples.get('graft_time_to_first_token_seconds_sum')).toBeCloseTo(0.06, 5); // the script says 30 ms of each
  expect(samples.get('graft_inter_token_seconds_count')).toBe(1); // one token has none after it
  expect(samples.get('graft_inter_token_seconds_sum')).toBeGreaterThan(0.02);
  expect(samples.get('graft_answers_total{finish_reason="stop"}')).toBe(1);
  expect(samples.get('graft_answers_total{finish_reason="length"}')).toBe(1);
});

test('a failed answer and an abandoned one are counted apart', async () => {
  const failing = start({ failAt: { index: 1, error: new Error('broken') } });
  await failing.text();
  expect((await failing.metrics()).get('graft_answers_total{finish_reason="error"}')).toBe(1);

  const { app, metrics } = start({ tokens: Array.from({ length: 500 }, () => 'x'), delayMs: 5 });
  const url = await app.listen({ port: 0 });
  const client = new AbortController();
  const body = JSON.stringify({ prompt: 'hi', stream: true });
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(`${url}/v1/completions`, { method: 'POST', body, headers, signal: client.signal });
  await response.body!.getReader().read();
  client.abort();
  await expect.poll(async () => (await metrics()).get('graft_answers_total{finish_reason="abandoned"}')).toBe(1);
  expect((await metrics()).get('graft_http_requests_total{method="POST",route="/v1/completions",status="499"}')).toBe(1);
});

test('with a key set, /metrics asks for it', async () => {
  const { app } = start({}, { apiKey: 'secret' });
  expect((await app.inject('/metrics')).statusCode).toBe(401);
  const response = await app.inject({ url: '/metrics', headers: { authorization: 'Bearer secret' } });
  expect(response.statusCode).toBe(200);
  expect(response.body).toContain('graft_http_requests_total{method="GET",route="/metrics",status="401"} 1');
});

test('an engine that does not answer is down, and its counts are left out instead of 0', async () => {
  const { app, engine } = start();
  await app.inject('/metrics');
  engine.stats = async () => Promise.reject(new Error('ended'));
  const { statusCode, body } = await app.inject('/metrics');
  expect(statusCode).toBe(200);
  const samples = samplesOf(body);
  expect(samples.get('graft_engine_up')).toBe(0);
  expect(samples.has('graft_recompiles_total')).toBe(false);
  expect(samples.get('graft_http_requests_total{method="GET",route="/metrics",status="200"}')).toBe(1);
});

test('two applications in one process count apart', async () => {
  const [one, other] = [start(), start()];
  await one.text();
  expect((await one.metrics()).get('graft_answers_total{finish_reason="stop"}')).toBe(1);
  expect([...(await other.metrics()).keys()].some((name) => name.startsWith('graft_answers_total{'))).toBe(false);
});
