import {
  closeSync,
  cpSync,
  fstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openCheckpoint } from './checkpoint.ts';
import { f32, failure, ggufBytes, llamaKeys, safetensorsBytes, safetensorsOf, temporaryFolder } from './checkpoint-files.fixture.ts';
import { type FileBytes, openFileBytes } from './file-bytes.ts';

const corrupt = 'GRAFT_CHECKPOINT_CORRUPT';
const notFound = 'GRAFT_CHECKPOINT_NOT_FOUND';
const tensor = (...values: number[]) => ({ dtype: 'F32', shape: [values.length], data: f32(...values) });

/** A folder with these files; an object is written as JSON. */
function folder(files: Record<string, unknown>): string {
  const path = temporaryFolder();
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(path, name), content instanceof Uint8Array || typeof content === 'string' ? content : JSON.stringify(content));
  }
  return path;
}

const one = safetensorsOf({ a: tensor(1, 2) });
const two = safetensorsOf({ b: tensor(3) });
const sharded = (weightMap: unknown, shards: Record<string, Uint8Array> = { 'one.safetensors': one, 'two.safetensors': two }) =>
  folder({ 'config.json': {}, 'model.safetensors.index.json': { weight_map: weightMap }, ...shards });

test('a folder with one file gives its tensors and its config', async () => {
  const checkpoint = await openCheckpoint(folder({ 'config.json': { model_type: 'llama4' }, 'model.safetensors': one }));
  expect(checkpoint).toMatchObject({ kind: 'safetensors', config: { model_type: 'llama4' }, metadata: null });
  const { file, offset, byteLength } = checkpoint.tensors.get('a')!;
  expect(file.read(offset, byteLength)).toEqual(f32(1, 2));
  checkpoint[Symbol.dispose]();
  checkpoint[Symbol.dispose]();
  expect((await failure(() => file.read(offset, byteLength))).message).toMatch(/was closed/);
});

test('shards are joined through the index, also when they are links', async () => {
  const path = sharded({ a: 'one.safetensors', b: 'link.safetensors' }, { 'one.safetensors': one, blob: two });
  symlinkSync(join(path, 'blob'), join(path, 'link.safetensors'));
  const checkpoint = await openCheckpoint(path);
  expect([...checkpoint.tensors.keys()]).toEqual(['a', 'b']);
  checkpoint[Symbol.dispose]();
});

test('a tensor that the index forgot is not lost', async () => {
  const path = sharded({ a: 'one.safetensors' }, { 'one.safetensors': safetensorsOf({ a: tensor(1), c: tensor(2) }) });
  const checkpoint = await openCheckpoint(path);
  expect([...checkpoint.tensors.keys()]).toEqual(['a', 'c']);
  checkpoint[Symbol.dispose]();
});

const broken: [what: string, path: () => string, code: string, message: RegExp][] = [
  ['a path that is not there', () => join(temporaryFolder(), 'nothing'), notFound, /No file or folder has this path/],
  ['an empty folder', () => folder({}), notFound, /config.json/],
  [
    'a folder without weights',
    () => folder({ 'config.json': {}, 'pytorch_model.bin': '' }),
    notFound,
    /no model.safetensors and no .*pytorch_model.bin/,
  ],
  ['a config that is no JSON', () => folder({ 'config.json': '{', 'model.safetensors': one }), corrupt, /not valid JSON.*config.json/s],
  ['a config that is a list', () => folder({ 'config.json': [], 'model.safetensors': one }), corrupt, /not a JSON object/],
  [
    'a config that names a key twice',
    () => folder({ 'config.json': '{"a":1,"a":2}', 'model.safetensors': one }),
    corrupt,
    /"a" occurs twice/,
  ],
  [
    'an index that is no JSON',
    () => folder({ 'config.json': {}, 'model.safetensors.index.json': 'x' }),
    corrupt,
    /not valid JSON.*index.json/s,
  ],
  [
    'an index without weight_map',
    () => folder({ 'config.json': {}, 'model.safetensors.index.json': {} }),
    corrupt,
    /no object "weight_map"/,
  ],
  [
    'a weight_map that comes from __proto__',
    () => folder({ 'config.json': {}, 'model.safetensors.index.json': '{"__proto__":{"weight_map":{}}}' }),
    corrupt,
    /no object "weight_map"/,
  ],
  ['a weight_map that is a list', () => sharded([]), corrupt, /no object "weight_map"/],
  [
    'a shard that is missing',
    () => sharded({ a: 'one.safetensors', b: 'three.safetensors' }),
    notFound,
    /shard three.safetensors is missing.*tensor "b"/s,
  ],
  [
    'a tensor that its shard lacks',
    () => sharded({ a: 'two.safetensors' }),
    'GRAFT_CHECKPOINT_MISSING_TENSOR',
    /two.safetensors holds.*tensor "a"/s,
  ],
  ['a shard outside the folder', () => sharded({ a: '../one.safetensors' }), corrupt, /"..\/one.safetensors" is not that of.*tensor "a"/s],
  ['a shard with an absolute path', () => sharded({ a: '/etc/one.safetensors' }), corrupt, /"\/etc\/one.safetensors"/],
  ['a shard with a backslash', () => sharded({ a: '..\\one.safetensors' }), corrupt, /one.safetensors" is not that of/],
  ['a shard of another kind', () => sharded({ a: 'config.json' }), corrupt, /"config.json" is not that of/],
  ['a shard name that is a number', () => sharded({ a: 3 }), corrupt, /shard name 3/],
  [
    'a __proto__ in the weight_map',
    () =>
      folder({
        'config.json': {},
        'model.safetensors.index.json': '{"weight_map":{"__proto__":"one.safetensors"}}',
        'one.safetensors': one,
      }),
    'GRAFT_CHECKPOINT_MISSING_TENSOR',
    /tensor "__proto__"/,
  ],
  [
    'a shard that is a folder',
    () => withFolder(sharded({ a: 'x.safetensors' }), 'x.safetensors'),
    notFound,
    /not a regular file|cannot be opened/,
  ],
  [
    'a shard that is truncated',
    () => sharded({ a: 'one.safetensors' }, { 'one.safetensors': one.subarray(0, -2) }),
    corrupt,
    /one.safetensors, tensor "a"/,
  ],
];

function withFolder(path: string, name: string): string {
  mkdirSync(join(path, name));
  return path;
}

test.each(broken)('%s is one clear error, and every file is closed', async (_, path, code, message) => {
  const opened: FileBytes[] = [];
  const closed: FileBytes[] = [];
  const openFile = (name: string): FileBytes => {
    const file = openFileBytes(name);
    const watched: FileBytes = {
      path: file.path,
      byteLength: file.byteLength,
      read: (offset, length) => file.read(offset, length),
      close() {
        closed.push(watched);
        file.close();
      },
    };
    opened.push(watched);
    return watched;
  };
  const error = await failure(() => openCheckpoint(path(), { openFile }));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
  expect(error.fix).toBeDefined();
  expect(closed).toEqual(opened);
});

test('a file that shrinks after it was opened is an error, not zeros', async () => {
  const path = folder({ 'config.json': {}, 'model.safetensors': one });
  const checkpoint = await openCheckpoint(path);
  truncateSync(join(path, 'model.safetensors'), 95);
  const { file, offset, byteLength } = checkpoint.tensors.get('a')!;
  const error = await failure(() => file.read(offset, byteLength));
  expect([error.code, error.message]).toEqual([corrupt, expect.stringContaining('the file ends at 95')]);
  checkpoint[Symbol.dispose]();
});

async function fingerprint(path: string): Promise<string> {
  using checkpoint = await openCheckpoint(path);
  return await checkpoint.fingerprint();
}

test('the fingerprint follows the contents, not the place or the time', async () => {
  const path = sharded({ a: 'one.safetensors', b: 'two.safetensors' });
  const copy = temporaryFolder();
  cpSync(path, copy, { recursive: true });
  utimesSync(join(copy, 'one.safetensors'), 1, 1);
  const before = await fingerprint(path);
  expect(before).toMatch(/^[0-9a-f]{64}$/);
  expect(await fingerprint(copy)).toBe(before);
  const bytes = Uint8Array.from(readFileSync(join(copy, 'one.safetensors')));
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(join(copy, 'one.safetensors'), bytes);
  expect(await fingerprint(copy)).not.toBe(before);
});

test('a file of over 512 MiB is fingerprinted by its header, samples and the time of its last change', async () => {
  const path = sparseFolder(513 * 2 ** 20);
  const file = join(path, 'model.safetensors');
  utimesSync(file, 1000, 1000);
  const before = await fingerprint(path);
  expect(await fingerprint(path)).toBe(before);
  utimesSync(file, 1000, 1001);
  expect(await fingerprint(path)).not.toBe(before);
  writeAtEnd(file);
  utimesSync(file, 1000, 1000);
  expect(await fingerprint(path)).not.toBe(before);
});

/** One tensor of this many bytes, all holes: it takes no room on the disk. */
function sparseFolder(bytes: number): string {
  const header = safetensorsBytes(JSON.stringify({ a: { dtype: 'U8', shape: [bytes], data_offsets: [0, bytes] } }));
  const path = folder({ 'config.json': {}, 'model.safetensors': header });
  truncateSync(join(path, 'model.safetensors'), header.byteLength + bytes);
  return path;
}

function writeAtEnd(path: string): void {
  const descriptor = openSync(path, 'r+');
  writeSync(descriptor, Uint8Array.of(1), 0, 1, fstatSync(descriptor).size - 1);
  closeSync(descriptor);
}

test('a GGUF gives its metadata and its tensors, and leaves the config to its family', async () => {
  const path = join(temporaryFolder(), 'tiny.gguf');
  writeFileSync(
    path,
    ggufBytes({ keys: llamaKeys(), tensors: [{ name: 'token_embd.weight', dims: [32, 2], type: 0, data: new Uint8Array(256) }] }),
  );
  const checkpoint = await openCheckpoint(path);
  expect(checkpoint.kind).toBe('gguf');
  expect(checkpoint.metadata?.get('llama.context_length')).toBe(64);
  expect(checkpoint.tensors.get('token_embd.weight')?.shape).toEqual([2, 32]);
  checkpoint[Symbol.dispose]();
});
