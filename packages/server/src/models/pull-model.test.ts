import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FixtureHub, inGoodOrder } from './hub.fixture.ts';
import { type PullOptions, pullModel } from './pull-model.ts';

const root = mkdtempSync(join(tmpdir(), 'graft-hub-'));
const hub = new FixtureHub();
let home: string;
let environment: NodeJS.ProcessEnv;
let homes = 0;

beforeAll(() => hub.start());
afterAll(() => {
  hub.close();
  rmSync(root, { recursive: true, force: true });
});
beforeEach(() => {
  home = join(root, String(homes++));
  environment = { HF_HOME: home, HF_ENDPOINT: hub.url };
});
afterEach(() => {
  hub.faults = inGoodOrder();
  hub.requests.length = 0;
  hub.tokensAtCdn.length = 0;
});

const bytes = (length: number, seed: string) => Buffer.alloc(length, seed);
const small = {
  'config.json': '{"architectures":["LlamaForCausalLM"]}',
  'tokenizer.json': '{}',
  'README.md': '# Read me',
  'pytorch_model.bin': 'pickle',
};
const pull = (name: string, options: Partial<PullOptions> = {}) => pullModel(name, { environment, ...options });
const failure = (name: string, options?: Partial<PullOptions>) =>
  pull(name, options).then(
    (pulled) => expect.fail(JSON.stringify(pulled)),
    (error: { code: string; what: string; fix: string }) => error,
  );
const folderOf = (repo: string) => join(home, 'hub', `models--${repo.replace('/', '--')}`);
const filesIn = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
    .sort();

describe('a model of safetensors', () => {
  const shards = { 'model-00001-of-00002.safetensors': bytes(3000, 'one'), 'model-00002-of-00002.safetensors': bytes(5000, 'two') };
  const index = JSON.stringify({ weight_map: { a: 'model-00002-of-00002.safetensors', b: 'model-00001-of-00002.safetensors' } });
  let commit: string;
  beforeAll(() => {
    commit = hub.commit('org/sharded', { ...small, ...shards, 'model.safetensors.index.json': index, 'other.safetensors': bytes(10, 'x') });
  });

  test('is downloaded into the layout of huggingface_hub: what is needed, as links to blobs by hash, and the ref', async () => {
    const seen: (number | null)[] = [];
    const pulled = await pull('hf:org/sharded', { onProgress: ({ fraction }) => seen.push(fraction) });
    const folder = folderOf('org/sharded');
    const wanted = ['config.json', ...Object.keys(shards), 'model.safetensors.index.json', 'tokenizer.json'];
    expect(pulled).toMatchObject({ path: join(folder, 'snapshots', commit), commit });
    expect(pulled.files.toSorted()).toEqual(wanted);
    expect(pulled.bytes).toBe(pulled.downloadedBytes);
    expect(readdirSync(pulled.path).sort()).toEqual(wanted);
    expect(readFileSync(join(folder, 'refs', 'main'), 'utf8')).toBe(commit);
    // git hash-object of the config, and sha256sum of the first shard.
    expect(readlinkSync(join(pulled.path, 'config.json'))).toBe('../../blobs/5a173f32eeda27116011dd50549d0ebc08e5e926');
    expect(readlinkSync(join(pulled.path, 'model-00001-of-00002.safetensors'))).toBe(
      '../../blobs/2fce97fe6ec8811452255c10caff522085966e8688083aa72fe25f89b421413c',
    );
    expect(readFileSync(join(pulled.path, 'model-00001-of-00002.safetensors'))).toEqual(shards['model-00001-of-00002.safetensors']);
    expect(readdirSync(join(folder, 'blobs'))).toHaveLength(wanted.length);
    expect(seen.at(-1)).toBe(1);
    expect(seen.filter((fraction) => fraction !== null)).toEqual(seen.filter((fraction) => fraction !== null).toSorted((a, b) => a - b));
  });

  test('that is there is not downloaded again, and a new commit takes only what changed', async () => {
    await pull('hf:org/sharded');
    hub.requests.length = 0;
    expect((await pull('hf:org/sharded')).downloadedBytes).toBe(0);
    expect(hub.requests.filter((line) => /resolve|CDN/.test(line))).toEqual([]);
    const changed = hub.commit('org/sharded', {
      ...small,
      ...shards,
      'tokenizer.json': '{"changed":true}',
      'model.safetensors.index.json': index,
    });
    const pulled = await pull('hf:org/sharded');
    expect(pulled).toMatchObject({ commit: changed, downloadedBytes: 16 });
    expect(hub.downloads).toBe(0);
    expect((await pull(`hf:org/sharded@${commit}`)).downloadedBytes).toBe(0);
  });

  test('without its weights is config and tokenizer, and a later pull completes it', async () => {
    const { path, files } = await pull('hf:org/sharded', { weights: false });
    expect(files).toEqual(['config.json', 'tokenizer.json']);
    await pull('hf:org/sharded');
    expect(readdirSync(path)).toHaveLength(5);
  });

  test('whose index names a file that the repository lacks is refused', async () => {
    hub.commit('org/broken', { ...small, 'model.safetensors.index.json': '{"weight_map":{"a":"lost.safetensors"}}' });
    expect(await failure('hf:org/broken')).toMatchObject({
      code: 'GRAFT_HUB_FILES',
      what: 'The repository lacks lost.safetensors, which its index names.',
    });
    hub.commit('org/broken', { ...small, 'model.safetensors.index.json': '[]' });
    expect((await failure('hf:org/broken')).what).toContain('weight_map');
  });
});

describe('a GGUF', () => {
  const content = bytes(200_000, 'gguf');
  const files = { ...small, 'x-Q8_0.gguf': bytes(10, '8'), 'x-Q4_K_M.gguf': content };
  beforeAll(() => {
    hub.commit('org/gguf', files);
  });
  /** Cuts the connection when so many bytes have arrived in all. */
  const cutAt = (...counts: number[]): Partial<PullOptions> => {
    hub.faults.cuts = counts.map((count, i) => count - (counts[i - 1] ?? 0));
    return { onProgress: ({ fraction }) => counts.includes(Math.round((fraction ?? 0) * content.length)) && hub.cut() };
  };
  const isContent = (path: string) => readFileSync(path).equals(content);
  const partialOf = (path: string) => join(folderOf('org/gguf'), 'blobs', `${path}.graft.incomplete`);
  const hash = 'a89469da6667be67c66d30c5f6aa2062e4cdebda2f6139d050e738db6154d389'; // sha256sum

  test('is one file, and a note tells which of several was taken', async () => {
    const notes: string[] = [];
    const { path } = await pull('hf:org/gguf', { onNote: (note) => notes.push(note) });
    expect(path.endsWith('/x-Q4_K_M.gguf')).toBe(true);
    expect(isContent(path)).toBe(true);
    expect(filesIn(folderOf('org/gguf'))).toHaveLength(3); // blob, link and ref
    expect(notes).toEqual(['hf:org/gguf: Q4_K_M is taken. It has "Q4_K_M" and "Q8_0": write hf:org/gguf:QUANT for another.']);
  });

  test('goes on after a connection that broke, in the same process', async () => {
    const { path } = await pull('hf:org/gguf', cutAt(50_000, 110_000));
    expect(isContent(path)).toBe(true);
    expect(hub.requests.filter((line) => line.startsWith('CDN')).map((line) => line.split(' ').at(-1))).toEqual([
      'whole',
      'bytes=50000-',
      'bytes=110000-',
    ]);
  });

  test('goes on after a stop, in the next process', async () => {
    const abort = new AbortController();
    hub.faults.cuts = [80_000];
    const stopped = pull('hf:org/gguf', {
      signal: abort.signal,
      onProgress: ({ fraction }) => fraction === 0.4 && abort.abort(new Error('stopped')),
    });
    await expect(stopped).rejects.toThrow('stopped');
    expect(statSync(partialOf(hash)).size).toBe(80_000);
    expect(existsSync(join(folderOf('org/gguf'), 'refs'))).toBe(false);
    hub.requests.length = 0;
    const { path } = await pull('hf:org/gguf');
    expect(isContent(path)).toBe(true);
    expect(hub.requests.at(-1)).toMatch(/^CDN \w+ bytes=80000-$/);
    expect(readdirSync(join(folderOf('org/gguf'), 'blobs'))).toEqual([hash]);
  });

  test('begins again where the server answers a range with the whole file', async () => {
    hub.faults.ignoresRanges = true;
    expect(isContent((await pull('hf:org/gguf', cutAt(50_000))).path)).toBe(true);
    expect(hub.downloads).toBe(2);
  });

  test('begins again where an earlier attempt left other bytes, or too many', async () => {
    for (const left of ['other bytes', bytes(300_000, 'x')]) {
      rmSync(home, { recursive: true, force: true });
      mkdirSync(join(folderOf('org/gguf'), 'blobs'), { recursive: true });
      writeFileSync(partialOf(hash), left);
      expect(isContent((await pull('hf:org/gguf')).path)).toBe(true);
    }
  });

  test('with the wrong hash is refused, and nothing of it is kept', async () => {
    hub.faults.corrupt = true;
    expect(await failure('hf:org/gguf')).toMatchObject({
      code: 'GRAFT_MODEL_HASH_MISMATCH',
      what: expect.stringContaining(`expected ${hash}`),
    });
    expect(filesIn(join(home, 'hub'))).toEqual([]);
  });

  test('that always breaks off ends in an error after some tries, and keeps what it has', async () => {
    expect(await failure('hf:org/gguf', cutAt(1000, 1000, 1000, 1000, 1000))).toMatchObject({
      code: 'GRAFT_HUB_UNREACHABLE',
      fix: expect.stringContaining('goes on where it stopped'),
    });
    expect(statSync(partialOf(hash)).size).toBe(1000);
  });

  test('that does not fit on the disk is refused before a byte is downloaded', async () => {
    hub.faults.sizes = { 'x-Q4_K_M.gguf': 2 ** 60 };
    expect(await failure('hf:org/gguf')).toMatchObject({
      code: 'GRAFT_MODEL_DISK_FULL',
      what: expect.stringContaining('it needs 1152921504.6 GB'),
    });
    expect(hub.downloads).toBe(0);
  });

  test.runIf(existsSync('/dev/full'))('ends in an error in words when the disk becomes full', async () => {
    mkdirSync(join(folderOf('org/gguf'), 'blobs'), { recursive: true });
    symlinkSync('/dev/full', partialOf(hash)); // every write fails with ENOSPC
    expect(await failure('hf:org/gguf')).toMatchObject({ code: 'GRAFT_MODEL_DISK_FULL', fix: expect.stringContaining('graft rm') });
    expect(hub.downloads).toBe(1);
  });

  test('pulled twice at once is downloaded once', async () => {
    const both = await Promise.all([pull('hf:org/gguf'), pull('hf:org/gguf')]);
    expect(both[0].path).toBe(both[1].path);
    expect(hub.downloads).toBe(1);
    expect(filesIn(join(home, 'hub', '.locks'))).toEqual([]);
  });

  test('is pulled although a process that held the lock has died', async () => {
    const dead = spawn('true');
    await once(dead, 'close');
    mkdirSync(join(home, 'hub', '.locks', 'models--org--gguf'), { recursive: true });
    writeFileSync(join(home, 'hub', '.locks', 'models--org--gguf', 'graft.lock'), `${hostname()} ${dead.pid}`);
    expect(isContent((await pull('hf:org/gguf')).path)).toBe(true);
  });

  test('in a cache that cannot be written is refused in words', async () => {
    mkdirSync(home);
    writeFileSync(join(home, 'hub'), 'a file');
    expect(await failure('hf:org/gguf')).toMatchObject({ code: 'GRAFT_MODEL_CACHE_WRITE', fix: expect.stringContaining('HF_HUB_CACHE') });
  });
});

describe('what the hub refuses', () => {
  beforeAll(() => {
    hub.commit('org/gated', { 'x-Q8_0.gguf': 'secret' });
    hub.repositories.get('org/gated')!.gated = true;
    hub.commit('org/open', { 'x-Q8_0.gguf': 'open' });
  });

  test('is a gated model without a token; with one it is downloaded, and the CDN never sees the token', async () => {
    const { code, what, fix } = await failure('hf:org/gated');
    expect(code).toBe('GRAFT_HUB_ACCESS');
    expect(what).toContain('org/gated is gated');
    expect(fix).toContain('HF_TOKEN');
    await pull('hf:org/gated', { environment: { ...environment, HF_TOKEN: hub.token } });
    expect(hub.downloads).toBe(1);
    expect(hub.tokensAtCdn).toEqual([]);
  });

  test('is a wrong token, also for an open model', async () => {
    const refused = await failure('hf:org/open', { environment: { ...environment, HF_TOKEN: 'hf_wrong' } });
    expect(refused).toMatchObject({ code: 'GRAFT_HUB_ACCESS', what: expect.stringContaining('Invalid credentials') });
  });

  test('is not a token that `hf auth login` left in HF_HOME', async () => {
    mkdirSync(home);
    writeFileSync(join(home, 'token'), `${hub.token}\n`);
    await pull('hf:org/gated');
  });

  test.each([
    ['hf:org/none', 'has no repository "org/none", or it is private'],
    ['hf:org/open@v9', 'org/open has no revision "v9"'],
  ])('is %s, which it does not have', async (name, words) => {
    expect(await failure(name)).toMatchObject({ code: 'GRAFT_HUB_NOT_FOUND', what: expect.stringContaining(words) });
  });

  test('is a file outside of the cache that a repository names', async () => {
    hub.commit('org/evil', { '../../../evil-Q8_0.gguf': 'evil' });
    expect(await failure('hf:org/evil')).toMatchObject({ code: 'GRAFT_HUB_UNREACHABLE', what: expect.stringContaining('malformed') });
  });
});

describe('without the hub', () => {
  beforeAll(() => {
    hub.commit('org/far', { 'x-Q8_0.gguf': 'far', 'x-Q4_K_M.gguf': 'farther' });
  });
  const nowhere = async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    return { ...environment, HF_ENDPOINT: `http://127.0.0.1:${port}` };
  };

  test('HF_HUB_OFFLINE serves what the cache has, and refuses the rest without a request', async () => {
    const { path } = await pull('hf:org/far:Q8_0');
    hub.requests.length = 0;
    const offline = { environment: { ...environment, HF_HUB_OFFLINE: '1' } };
    expect((await pull('hf:org/far:Q8_0', offline)).path).toBe(path);
    for (const name of ['hf:org/far:Q4_K_M', 'hf:org/other', 'hf:org/far@v2'])
      expect(await failure(name, offline)).toMatchObject({ code: 'GRAFT_HUB_NOT_CACHED', fix: 'unset HF_HUB_OFFLINE to download it.' });
    expect(hub.requests).toEqual([]);
  });

  test('a model in the cache is used with a note; any other ends in an error that names the address and the cause', async () => {
    const { path } = await pull('hf:org/far:Q8_0');
    const notes: string[] = [];
    const unreachable = { environment: await nowhere(), onNote: (note: string) => notes.push(note) };
    expect((await pull('hf:org/far:Q8_0', unreachable)).path).toBe(path);
    expect(notes).toEqual([
      expect.stringMatching(/^http:\/\/127.0.0.1:\d+ cannot be reached: .*ECONNREFUSED.* The copy in the cache is used\.$/),
    ]);
    expect(await failure('hf:org/far:Q4_K_M', unreachable)).toMatchObject({ code: 'GRAFT_HUB_UNREACHABLE' });
  });

  test.each([
    [503, '<html>down</html>', 'answered with status 503'],
    [200, '<html>Log in to the hotel</html>', 'does not answer as the hub does'],
  ])('a page with status %i in its place is not taken for the hub', async (status, body, words) => {
    hub.faults.page = { status, body };
    expect(await failure('hf:org/far')).toMatchObject({ code: 'GRAFT_HUB_UNREACHABLE', what: expect.stringContaining(words) });
  });
});

test.each([
  [{ HF_ENDPOINT: 'hub.example' }, 'HF_ENDPOINT', '"hub.example" is not the address of a hub'],
  [{ HF_TOKEN: 'hf_\u2026' }, 'HF_TOKEN', 'The token holds characters'],
])('a variable that cannot be used is an error: %o', async (variables, where, what) => {
  const refused = await failure('hf:org/far', { environment: { ...environment, ...variables } });
  expect(refused).toMatchObject({ code: 'GRAFT_HUB_SETTING', where: expect.stringContaining(where), what: expect.stringContaining(what) });
});

test('HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME say where the cache is, in this order', async () => {
  hub.commit('org/open', { 'x-Q8_0.gguf': 'open' });
  const all = { HF_ENDPOINT: `${hub.url}/`, XDG_CACHE_HOME: join(home, 'x'), HF_HOME: join(home, 'h'), HF_HUB_CACHE: join(home, 'c') };
  const { HF_HUB_CACHE: _, ...two } = all;
  const { HF_HOME: __, ...one } = two;
  const places = [];
  for (const variables of [all, two, one])
    places.push((await pull('hf:org/open', { environment: variables })).path.slice(home.length).split('/models--')[0]);
  expect(places).toEqual(['/c', '/h/hub', '/x/huggingface/hub']);
});

describe('the layout that huggingface_hub 2.4.0 made of org/recorded', () => {
  const files = { 'config.json': '{"architectures":["LlamaForCausalLM"]}', 'model.safetensors': 'weights', 'sub/x-Q8_0.gguf': 'eight' };
  const commit = 'c373312f94717882828421fe9f88f9854ba2c383';
  const blobs: Record<string, string> = {
    'config.json': '5a173f32eeda27116011dd50549d0ebc08e5e926',
    'model.safetensors': '9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c',
    'sub/x-Q8_0.gguf': 'c195d2d8756234367242ba7616c5c60369bc25ced2dcb5b92808d31b58ef217a',
  };
  /** Text of a file, or `-> TARGET` of a link, by path in the cache; without what huggingface_hub alone reads (locks, trees, CACHEDIR.TAG). */
  const recorded = Object.fromEntries(
    Object.entries(blobs).flatMap(([path, hash]) => [
      [`models--org--recorded/blobs/${hash}`, files[path as keyof typeof files]],
      [`models--org--recorded/snapshots/${commit}/${path}`, `-> ${path.includes('/') ? '../' : ''}../../blobs/${hash}`],
    ]),
  );
  recorded['models--org--recorded/refs/main'] = commit;
  beforeAll(() => expect(hub.commit('org/recorded', files)).toBe(commit));

  test('is the one that a pull makes', async () => {
    await pull('hf:org/recorded');
    await pull('hf:org/recorded:Q8_0');
    const cache = join(home, 'hub');
    const textOf = (path: string) => (lstatSync(path).isSymbolicLink() ? `-> ${readlinkSync(path)}` : readFileSync(path, 'utf8'));
    expect(Object.fromEntries(filesIn(cache).map((path) => [path, textOf(join(cache, path))]))).toEqual(recorded);
  });

  test('is used without a download', async () => {
    for (const [path, text] of Object.entries(recorded)) {
      const file = join(home, 'hub', path);
      mkdirSync(dirname(file), { recursive: true });
      if (text.startsWith('-> ')) symlinkSync(text.slice(3), file);
      else writeFileSync(file, text);
    }
    expect((await pull('hf:org/recorded')).downloadedBytes).toBe(0);
    expect((await pull('hf:org/recorded:Q8_0')).downloadedBytes).toBe(0);
    expect(hub.requests.filter((line) => /resolve|CDN/.test(line))).toEqual([]);
  });
});
