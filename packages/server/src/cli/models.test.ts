import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Engine } from '@graft/engine';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { scriptedEngine } from '../../test/scripted-engine.ts';
import { FixtureHub } from '../models/hub.fixture.ts';
import { chat } from './chat.ts';
import { readEnvironment } from './config.ts';
import { explain, graphs } from './explain.ts';
import { models, pull, remove } from './models.ts';
import { defaultPlugins } from './start-engine.ts';

const root = mkdtempSync(join(tmpdir(), 'graft-models-'));
const checkpoint = fileURLToPath(new URL('../../../../tests/parity/cases/llama-bias', import.meta.url));
const hub = new FixtureHub();
let home: string;
let homes = 0;

beforeAll(async () => {
  await hub.start();
  const read = (name: string) => readFileSync(join(checkpoint, name));
  hub.commit('org/llama', { 'config.json': read('config.json'), 'model.safetensors': read('model.safetensors') });
  hub.commit('org/gguf', { 'x-Q8_0.gguf': 'old eight', 'x-Q4_0.gguf': 'four' });
  hub.commit('org/gguf', { 'x-Q8_0.gguf': 'new eight', 'x-Q4_0.gguf': 'four' }, 'v2');
});
afterAll(() => {
  hub.close();
  rmSync(root, { recursive: true, force: true });
});
beforeEach(() => {
  home = join(root, String(homes++));
});

/** A GGUF of version 3: one key, `general.architecture`, and one tensor of four float32. */
function smallGguf(architecture: string): Buffer {
  const number = (value: number, bytes: 4 | 8) => {
    const buffer = Buffer.alloc(bytes);
    buffer.writeUInt32LE(value);
    return buffer;
  };
  const text = (value: string) => Buffer.concat([number(value.length, 8), Buffer.from(value)]);
  const key = [text('general.architecture'), number(8, 4), text(architecture)];
  const tensor = [text('output_norm.weight'), number(1, 4), number(4, 8), number(0, 4), number(0, 8)];
  const header = Buffer.concat([Buffer.from('GGUF'), number(3, 4), number(1, 8), number(1, 8), ...key, ...tensor]);
  return Buffer.concat([header, Buffer.alloc(Math.ceil(header.length / 32) * 32 - header.length), Buffer.alloc(16)]);
}

async function run(command: (environment: ReturnType<typeof readEnvironment>, terminal: Parameters<typeof pull>[3]) => Promise<void>) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  await command(readEnvironment({ HF_HOME: home, HF_ENDPOINT: hub.url, XDG_CACHE_HOME: home }), { stdin, stdout, stderr });
  return { out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') };
}
const pulled = (name: string) => run((environment, terminal) => pull(name, {}, environment, terminal));
const removed = (name: string) => run((environment, terminal) => remove(name, {}, environment, terminal));
const listed = async (...model: string[]): Promise<{ name: string }[]> =>
  JSON.parse((await run((environment, terminal) => models({ json: true, model }, environment, terminal))).out);
const names = async () => (await listed()).map(({ name }) => name);
const blobs = (repo: string) => readdirSync(join(home, 'hub', `models--${repo.replace('/', '--')}`, 'blobs'));

test('graft pull prints the path, and tells progress and choices on stderr', async () => {
  const { out, err } = await pulled('hf:org/gguf');
  const [path, summary] = out.trim().split('\n');
  expect(readFileSync(path!, 'utf8')).toBe('old eight');
  expect(summary).toBe('files: 1; size: 0 kB; downloaded now: 0 kB');
  expect(err).toContain('Download 100 %');
  expect(err).toContain('Q8_0 is taken');
});

test('graft models lists what the cache has and what is at given paths, with size, architecture and types', async () => {
  await pulled('hf:org/llama');
  await pulled('hf:org/gguf:Q8_0@v2');
  hub.commit('org/real', { 'sub/x-F32.gguf': smallGguf('qwen3') });
  await pulled('hf:org/real');
  mkdirSync(join(home, 'hub', 'models--org--other', 'snapshots', 'abc'), { recursive: true });
  const [gguf, llama, other, real, folder] = await listed(checkpoint);
  expect(gguf).toMatchObject({ name: 'hf:org/gguf:Q8_0@v2', bytes: 9, problem: expect.stringContaining('not with "GGUF"') });
  const known = { architecture: 'LlamaForCausalLM', types: ['BF16'], problem: null };
  expect(llama).toMatchObject({ name: 'hf:org/llama', path: expect.stringContaining(home), ...known });
  expect(other).toMatchObject({ name: 'hf:org/other', path: null, problem: expect.stringContaining('neither') });
  expect(real).toMatchObject({ name: 'hf:org/real:F32', architecture: 'qwen3', types: ['F32'], problem: null });
  expect(folder).toMatchObject({ name: checkpoint, path: checkpoint, ...known });
  const table = await run((environment, terminal) => models({}, environment, terminal));
  expect(table.out).toMatch(/^hf:org\/llama +100 kB +LlamaForCausalLM +BF16$/m);
});

test('graft models shows a download that was interrupted, next to what is complete, and how to complete it', async () => {
  await pulled('hf:org/gguf:Q4_0');
  const hash = createHash('sha256').update('old eight').digest('hex');
  writeFileSync(join(home, 'hub/models--org--gguf/blobs', `${hash}.graft.incomplete`), 'old');
  const incomplete = {
    name: 'hf:org/gguf',
    path: null,
    bytes: 3,
    problem: expect.stringContaining('graft pull with the same name completes it'),
  };
  expect((await listed()).slice(1)).toEqual([expect.objectContaining(incomplete)]);
  await pulled('hf:org/gguf:Q8_0');
  expect(await names()).toEqual(['hf:org/gguf:Q4_0', 'hf:org/gguf:Q8_0']);
});

test('graft models without any says how to get one', async () => {
  expect((await run((environment, terminal) => models({}, environment, terminal))).out).toBe(
    `No models in ${join(home, 'hub')}. graft pull hf:ORG/REPO downloads one.\n`,
  );
});

describe('graft rm', () => {
  test('removes one GGUF, and keeps the blobs that others share', async () => {
    for (const name of ['hf:org/gguf:Q8_0', 'hf:org/gguf:Q4_0', 'hf:org/gguf:Q4_0@v2', 'hf:org/gguf:Q8_0@v2']) await pulled(name);
    expect((await names()).sort()).toEqual(['hf:org/gguf:Q4_0', 'hf:org/gguf:Q4_0@v2', 'hf:org/gguf:Q8_0', 'hf:org/gguf:Q8_0@v2']);
    expect(blobs('org/gguf')).toHaveLength(3);
    await removed('hf:org/gguf:Q4_0@v2');
    expect(blobs('org/gguf')).toHaveLength(3); // main still has it
    await removed('hf:org/gguf:Q4_0');
    expect(blobs('org/gguf')).toHaveLength(2);
    await removed('hf:org/gguf@v2');
    expect(await names()).toEqual(['hf:org/gguf:Q8_0']);
    expect(readdirSync(join(home, 'hub', 'models--org--gguf', 'refs'))).toEqual(['main']);
    await removed('hf:org/gguf:Q8_0');
    expect(existsSync(join(home, 'hub', 'models--org--gguf'))).toBe(false);
  });

  test('without a variant removes all of the repository, what half a download left too', async () => {
    await pulled('hf:org/llama');
    writeFileSync(join(home, 'hub', 'models--org--llama', 'blobs', 'abc.graft.incomplete'), 'half');
    expect((await removed('hf:org/llama')).out).toBe('hf:org/llama is removed, which frees 100 kB.\n');
    expect(readdirSync(join(home, 'hub'))).toEqual(['.locks']);
    expect(readdirSync(join(home, 'hub', '.locks'))).toEqual([]);
  });

  test.each(['hf:org/gguf:Q8_0', 'hf:org/none', 'hf:org/gguf@v2'])('of %s, which the cache lacks, is an error', async (name) => {
    await pulled('hf:org/gguf:Q4_0');
    await expect(removed(name)).rejects.toMatchObject({ code: 'GRAFT_HUB_NOT_CACHED' });
    expect(await names()).toEqual(['hf:org/gguf:Q4_0']);
  });
});

describe('--model', () => {
  test('takes a model of the hub, and the API calls it by its name', async () => {
    const configs: { model: string }[] = [];
    const start = async (config: { model: string }): Promise<Engine> => {
      configs.push(config);
      return scriptedEngine();
    };
    await run(async (environment, terminal) => {
      (terminal.stdin as PassThrough).end('/exit\n');
      await chat({ model: 'hf:org/llama', temperature: 0 }, environment, terminal, start);
    });
    const path = (await listed()).map((model) => (model as unknown as { path: string }).path)[0]!;
    expect(configs).toEqual([{ model: path, servedModelName: 'org/llama' }]);
  });

  test('of a command that reads no weights takes config and tokenizer alone', async () => {
    const { out } = await run((environment, terminal) => explain([], { model: 'hf:org/llama' }, environment, terminal));
    expect(out).toContain('LlamaForCausalLM');
    await run((environment, terminal) => graphs({ model: 'hf:org/llama' }, environment, terminal));
    expect(blobs('org/llama')).toHaveLength(1);
  });

  test('with a name of the hub that is no path says to write hf:', async () => {
    const failed = run((environment, terminal) => explain([], { model: 'org/llama' }, environment, terminal));
    await expect(failed).rejects.toMatchObject({
      code: 'GRAFT_HUB_NAME',
      what: expect.stringContaining('lacks the "hf:"'),
      where: 'org/llama',
      fix: expect.stringContaining('write hf:org/llama'),
    });
  });
});

test('the default plugins are resolved from a folder of this package, wherever graft is started', () => {
  expect(existsSync(defaultPlugins.defaultPluginsFrom)).toBe(true);
});
