// Over HTTP: what a client sees of the emulated Gaudi, and of a bucket that the warm-up has not made.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { LlmEngine } from '@graft/engine';
import { createApp } from '@graft/server';
import { expect, onTestFinished, test } from 'vitest';
import { folderWithTokenizer, temporaryFolder } from '../packages/engine/src/engine.fixture.ts';

const sizes = { maxSequences: 2, maxModelLength: 48, prefillTokens: 12, threads: 1 };

async function serve(plugin: string, more: object = {}): Promise<(path: string, body?: object) => Promise<Response>> {
  const engine = await LlmEngine.start({
    model: folderWithTokenizer(),
    servedModelName: 'tiny',
    plugins: [plugin],
    platform: 'hpu',
    cacheDirectory: temporaryFolder(),
    ...sizes,
    ...more,
  });
  const app = createApp(engine);
  onTestFinished(async () => {
    await app.close();
    await engine.close();
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  const origin = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  return (path, body) =>
    fetch(
      `${origin}${path}`,
      body === undefined ? {} : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) },
    );
}

test('/health says that the device is emulated and why, and what the warm-up made', async () => {
  const ask = await serve('@graft/llama4-hpu');
  const { engine, stats } = (await (await ask('/health')).json()) as { engine: Record<string, unknown>; stats: Record<string, number> };
  expect(engine).toMatchObject({ platform: 'hpu', device: 'emulated', mode: 'compile', modelClass: 'HpuLlama4ForCausalLM' });
  expect(JSON.stringify(engine)).toContain('no Gaudi found here');
  expect(engine['warmUp']).toMatchObject({ rows: [{ kind: 'prompt' }, { kind: 'decode' }] });
  expect(stats['recompiles']).toBe(0);
  const answer = await ask('/v1/completions', { model: 'tiny', prompt: [5, 6, 7], max_tokens: 3, temperature: 0 });
  expect([answer.status, await answer.json()]).toMatchObject([200, { usage: { prompt_tokens: 3 } }]);
  expect(await (await ask('/metrics')).text()).toMatch(/^graft_recompiles_total 0$/m);
});

test('the log of graft serve says that the device is emulated, and shows the warm-up as a table', async () => {
  const bin = fileURLToPath(new URL('../packages/server/bin/graft.mjs', import.meta.url));
  const flags = [
    '--max-sequences',
    '2',
    '--max-model-length',
    '48',
    '--prefill-tokens',
    '12',
    '--threads',
    '1',
    '--cache-directory',
    temporaryFolder(),
  ];
  const child = spawn(process.execPath, [bin, 'serve', '--port', '0', '--model', folderWithTokenizer(), '--platform', 'hpu', ...flags], {
    cwd: fileURLToPath(new URL('../', import.meta.url)),
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (err += chunk.toString()));
  await expect.poll(() => out, { timeout: 30_000, interval: 50 }).toContain('Chat: http');
  expect(out).toContain('is served by HpuLlama4ForCausalLM on hpu (compile, emulated device).');
  expect(err).toContain('Platform "hpu" is emulated: asked for by name; no Gaudi found here');
  expect(err).toMatch(/^decode +2 +2 /m);
  const closed = once(child, 'close');
  child.kill('SIGTERM');
  expect(await closed).toEqual([0, null]);
});

test('with onRecompile fail, a bucket that was left out of the warm-up is a clean 5xx that names it, and the server goes on', async () => {
  const plugin = new URL('../packages/llama4-hpu/src/recorded-hpu.fixture.ts', import.meta.url).href; // leaves 2x1 out
  const ask = await serve(plugin, { onRecompile: 'fail' });
  const complete = () => ask('/v1/completions', { model: 'tiny', prompt: [5, 6, 7], max_tokens: 24, temperature: 0, ignore_eos: true });
  const answers = await Promise.all([complete(), complete()]);
  const refused = answers.filter(({ status }) => status !== 200);
  expect(refused.length).toBeGreaterThan(0);
  for (const answer of refused) {
    expect(answer.status).toBe(500);
    expect(await answer.json()).toMatchObject({ error: { message: expect.stringContaining('Bucket "2x1" has no graph') } });
  }
  expect((await complete()).status).toBe(200);
  expect(await (await ask('/metrics')).text()).toMatch(/^graft_recompiles_total 0$/m);
});
