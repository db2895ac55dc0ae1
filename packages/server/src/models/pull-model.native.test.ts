import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { FixtureHub, inGoodOrder } from './hub.fixture.ts';
import { pullModel } from './pull-model.ts';

/** Processes of their own, which share nothing but the cache. */
const root = mkdtempSync(join(tmpdir(), 'graft-hub-processes-'));
const hub = new FixtureHub();
const content = Buffer.alloc(400_000, 'gguf');
const patience = { timeout: 40_000 };

beforeAll(async () => {
  await hub.start();
  hub.commit('org/model', { 'x-Q8_0.gguf': content });
});
afterEach(() => {
  hub.faults = inGoodOrder();
  hub.requests.length = 0;
});
afterAll(() => {
  hub.close();
  rmSync(root, { recursive: true, force: true });
});

function holdCdn(): () => void {
  let release = () => {};
  hub.faults.hold = new Promise((resolve) => {
    release = resolve;
  });
  return release;
}

function pulling(environment: NodeJS.ProcessEnv): { child: ChildProcess; ended: Promise<{ code: unknown; path: string }> } {
  const script = `
    import { pullModel } from ${JSON.stringify(new URL('./pull-model.ts', import.meta.url).href)};
    console.log((await pullModel('hf:org/model', { environment: process.env })).path);`;
  const tsx = new URL('../../../../scripts/tsx.mjs', import.meta.url).href;
  const child = spawn(process.execPath, ['--conditions=@graft/source', '--import', tsx, '--input-type=module', '-e', script], {
    env: { ...process.env, ...environment },
    cwd: fileURLToPath(new URL('../../../../', import.meta.url)),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let path = '';
  child.stdout.on('data', (text: Buffer) => {
    path += text;
  });
  return { child, ended: once(child, 'close').then(([code]) => ({ code, path: path.trim() })) };
}

test('two processes that pull one model download it once', patience, async () => {
  const environment = { HF_HOME: join(root, 'two'), HF_ENDPOINT: hub.url };
  const release = holdCdn();
  const both = [pulling(environment), pulling(environment)];
  // Both have the list of files, so both found that the model is missing.
  await vi.waitFor(() => expect(hub.requests.filter((line) => line.includes('/tree/'))).toHaveLength(2), patience);
  await vi.waitFor(() => expect(hub.downloads).toBe(1), patience);
  release();
  const [first, second] = await Promise.all(both.map(({ ended }) => ended));
  expect(first).toEqual({ code: 0, path: expect.stringMatching(/x-Q8_0\.gguf$/) });
  expect(second).toEqual(first);
  expect(readFileSync(first!.path).equals(content)).toBe(true);
  expect(hub.downloads).toBe(1);
});

test('a process that is killed in mid-file leaves its bytes to the next one', patience, async () => {
  const environment = { HF_HOME: join(root, 'killed'), HF_ENDPOINT: hub.url };
  const release = holdCdn();
  const { child, ended } = pulling(environment);
  const blob = join(root, 'killed', 'hub', 'models--org--model', 'blobs', createHash('sha256').update(content).digest('hex'));
  await vi.waitFor(() => expect(statSync(`${blob}.graft.incomplete`).size).toBe(content.length / 2), patience);
  child.kill('SIGKILL');
  await ended;
  release();
  hub.faults = inGoodOrder();
  const { path } = await pullModel('hf:org/model', { environment });
  expect(readFileSync(path).equals(content)).toBe(true);
  expect(hub.requests.at(-1)).toMatch(/ bytes=200000-$/);
});
