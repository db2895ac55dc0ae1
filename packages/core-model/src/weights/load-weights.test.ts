import { existsSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatOfRanges, type Module, Parameter, type StorageFormat } from '@graft/graph';
import { expect, onTestFinished, test } from 'vitest';
import { llama } from '../families/llama.ts';
import { llama4 as family } from '../families/llama4.ts';
import { type Checkpoint, openCheckpoint } from './checkpoint.ts';
import { f32, failure, ggufBytes, llamaKeys, moduleOf, safetensorsOf, temporaryFile, temporaryFolder } from './checkpoint-files.fixture.ts';
import { type LoadWeights, loadWeights, stageWeights } from './load-weights.ts';
import { stackOf } from './map-parameters.ts';
import { reordered, stack, WeightRules } from './rules.ts';
import { faithfulPolicy, float32Policy } from './weight-policy.ts';

const cases = fileURLToPath(new URL('../../../../tests/parity/cases/', import.meta.url));

async function open(path: string): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(path);
  onTestFinished(() => checkpoint[Symbol.dispose]());
  return checkpoint;
}

interface TextConfig {
  hidden_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  num_key_value_heads: number;
  head_dim: number;
  intermediate_size: number;
  intermediate_size_mlp: number;
  num_local_experts: number;
  moe_layers: number[];
  vocab_size: number;
  tie_word_embeddings: boolean;
}

/** The parameters that a text model of this config has, by vLLM's names. */
function llama4(config: TextConfig, prefix = ''): Module {
  const { hidden_size: hidden, head_dim: headDim, intermediate_size: inner, num_local_experts: experts } = config;
  const shapes: Record<string, number[]> = { [`${prefix}model.embed_tokens.weight`]: [config.vocab_size, hidden] };
  for (let n = 0; n < config.num_hidden_layers; n++) {
    const layer = `${prefix}model.layers.${n}`;
    const forward = `${layer}.feed_forward`;
    shapes[`${layer}.input_layernorm.weight`] = [hidden];
    shapes[`${layer}.self_attn.qkv_proj.weight`] = [(config.num_attention_heads + 2 * config.num_key_value_heads) * headDim, hidden];
    shapes[`${layer}.self_attn.o_proj.weight`] = [hidden, config.num_attention_heads * headDim];
    shapes[`${layer}.post_attention_layernorm.weight`] = [hidden];
    if (config.moe_layers.includes(n)) {
      shapes[`${forward}.router.weight`] = [experts, hidden];
      shapes[`${forward}.experts.w13_weight`] = [experts, 2 * inner, hidden];
      shapes[`${forward}.experts.w2_weight`] = [experts, hidden, inner];
      shapes[`${forward}.shared_expert.gate_up_proj.weight`] = [2 * inner, hidden];
      shapes[`${forward}.shared_expert.down_proj.weight`] = [hidden, inner];
    } else {
      shapes[`${forward}.gate_up_proj.weight`] = [2 * config.intermediate_size_mlp, hidden];
      shapes[`${forward}.down_proj.weight`] = [hidden, config.intermediate_size_mlp];
    }
  }
  shapes[`${prefix}model.norm.weight`] = [hidden];
  if (!config.tie_word_embeddings) shapes[`${prefix}lm_head.weight`] = [config.vocab_size, hidden];
  return moduleOf(shapes);
}

/** Another, plainer reader of a bfloat16 safetensors file. */
function plainTensors(path: string): (key: string) => { shape: number[]; values: number[] } {
  const bytes = readFileSync(join(path, 'model.safetensors'));
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerLength)) as Record<
    string,
    { shape: number[]; data_offsets: [number, number] }
  >;
  return (key) => {
    const { shape, data_offsets } = header[key]!;
    const values: number[] = [];
    for (let at = data_offsets[0]; at < data_offsets[1]; at += 2) {
      const word = Buffer.alloc(4);
      word.writeUInt16LE(bytes.readUInt16LE(8 + headerLength + at), 2);
      values.push(word.readFloatLE());
    }
    return { shape, values };
  };
}

function valuesIn(model: Module, name: string): number[] {
  return [...new Map(model.namedParameters()).get(name)!.toFloat32()];
}

/** `toEqual` on a hundred thousand numbers takes seconds; the first difference says as much. */
function expectSame(actual: readonly number[], expected: readonly number[], name: string): void {
  const at = actual.findIndex((value, i) => !Object.is(value, expected[i]));
  expect([name, actual.length, at, actual[at]]).toEqual([name, expected.length, -1, expected[at]]);
}

const asNamed = new WeightRules({});
const rulesOf = ({ config }: Checkpoint): WeightRules => family.weights(family.parseConfig(config, { images: false }));
const inMemory: LoadWeights = { policy: float32Policy, cacheDirectory: null, rules: asNamed };

test.each(['scout-tiny', 'maverick-tiny', 'dense-tiny', 'top2-tiny', 'llama3rope-tiny', 'vision-tiny'])(
  '%s loads into the models parameters, each value where it belongs',
  async (name) => {
    const checkpoint = await open(join(cases, name));
    const config = checkpoint.config as TextConfig & { text_config?: TextConfig };
    const prefix = config.text_config === undefined ? '' : 'language_model.';
    const text = config.text_config ?? config;
    const model = llama4(text);
    const report = await loadWeights(model, checkpoint, { ...inMemory, rules: rulesOf(checkpoint) });
    expect(report).toMatchObject({ fromCache: false, parameters: [...model.namedParameters()].length });

    const plain = plainTensors(join(cases, name));
    const joined = (...keys: string[]): number[] => keys.flatMap((key) => plain(prefix + key).values);
    const check = (parameter: string, expected: number[]): void => expectSame(valuesIn(model, parameter), expected, parameter);
    for (const name of ['model.embed_tokens.weight', 'model.norm.weight']) check(name, joined(name));
    for (let n = 0; n < text.num_hidden_layers; n++) {
      const layer = `model.layers.${n}`;
      check(`${layer}.self_attn.qkv_proj.weight`, joined(...['q', 'k', 'v'].map((part) => `${layer}.self_attn.${part}_proj.weight`)));
      check(`${layer}.self_attn.o_proj.weight`, joined(`${layer}.self_attn.o_proj.weight`));
      if (!text.moe_layers.includes(n)) {
        check(
          `${layer}.feed_forward.gate_up_proj.weight`,
          joined(`${layer}.feed_forward.gate_proj.weight`, `${layer}.feed_forward.up_proj.weight`),
        );
        continue;
      }
      check(`${layer}.feed_forward.router.weight`, joined(`${layer}.feed_forward.router.weight`));
      for (const [parameter, key] of [
        ['w13_weight', 'gate_up_proj'],
        ['w2_weight', 'down_proj'],
      ] as const) {
        const { shape, values } = plain(`${prefix}${layer}.feed_forward.experts.${key}`);
        const [experts, rows, columns] = shape as [number, number, number];
        const transposed = Array.from({ length: experts * rows * columns }, (_, i) => {
          const [expert, column, row] = [Math.floor(i / (rows * columns)), Math.floor((i % (rows * columns)) / rows), i % rows];
          return values[(expert * rows + row) * columns + column]!;
        });
        check(`${layer}.feed_forward.experts.${parameter}`, transposed);
      }
    }
  },
);

test.each(['bfloat16', 'float16', 'int8b32', 'int4b32'] as const)(
  'every parameter of scout-tiny loads as %s, and through the cache alike',
  async (format) => {
    const checkpoint = await open(join(cases, 'scout-tiny'));
    const policy = (): StorageFormat => format;
    const [memory, cached] = [llama4(checkpoint.config as TextConfig), llama4(checkpoint.config as TextConfig)];
    const rules = rulesOf(checkpoint);
    await loadWeights(memory, checkpoint, { policy, cacheDirectory: null, rules });
    await loadWeights(cached, checkpoint, { policy, cacheDirectory: temporaryFolder(), rules });
    for (const [name, parameter] of memory.namedParameters()) {
      expect(parameter.dtype).toBe(format);
      expectSame(valuesIn(cached, name), [...parameter.toFloat32()], name);
    }
    if (format === 'bfloat16')
      expectSame(valuesIn(memory, 'lm_head.weight'), plainTensors(join(cases, 'scout-tiny'))('lm_head.weight').values, 'lm_head.weight');
  },
);

/** Parameters a [2, 32] and b [32] with a checkpoint of random-looking values. */
const tinyShapes = { a: [2, 32], b: [32] };
const tinyValues = Float32Array.from({ length: 96 }, (_, i) => Math.sin(i));
function tinyFolder(values = tinyValues): string {
  const path = temporaryFolder();
  writeFileSync(join(path, 'config.json'), '{}');
  const tensors = {
    a: { dtype: 'F32', shape: [2, 32], data: f32(...values.subarray(0, 64)) },
    b: { dtype: 'F32', shape: [32], data: f32(...values.subarray(64)) },
  };
  writeFileSync(join(path, 'model.safetensors'), safetensorsOf(tensors));
  return path;
}

async function loadTiny(path: string, options: Partial<LoadWeights> = {}) {
  const model = moduleOf(tinyShapes);
  using checkpoint = await openCheckpoint(path);
  return { model, report: await loadWeights(model, checkpoint, { ...inMemory, ...options }) };
}

const tinyLoaded = (model: Module): number[] => [...valuesIn(model, 'a'), ...valuesIn(model, 'b')];

test('the second load comes from the cache: same values, parts located in its file', async () => {
  const path = tinyFolder();
  const cacheDirectory = join(temporaryFolder(), 'made', 'on', 'demand');
  const first = await loadTiny(path, { cacheDirectory });
  const second = await loadTiny(path, { cacheDirectory });
  expect([first.report.fromCache, second.report.fromCache]).toEqual([false, true]);
  expect(second.report.bytes).toBe(96 * 4);
  expect(tinyLoaded(second.model)).toEqual([...tinyValues]);
  for (const [name, parameter] of second.model.namedParameters()) {
    const { location, read } = parameter.storage!.parts['data']!;
    expect(location!.offset % 64).toBe(0);
    const bytes = read();
    expect(
      readFileSync(location!.path)
        .subarray(location!.offset, location!.offset + bytes.byteLength)
        .equals(bytes),
      name,
    ).toBe(true);
  }
  expect(readdirSync(cacheDirectory).filter((name) => name.endsWith('.tmp'))).toEqual([]);
});

test('another checkpoint, another policy: another cache', async () => {
  const cacheDirectory = temporaryFolder();
  await loadTiny(tinyFolder(), { cacheDirectory });
  const other = await loadTiny(tinyFolder(tinyValues.map((v) => v + 1)), { cacheDirectory });
  expect(other.report.fromCache).toBe(false);
  expect(tinyLoaded(other.model)).toEqual([...tinyValues.map((v) => v + 1)]);
  expect((await loadTiny(tinyFolder(), { cacheDirectory, policy: () => 'int8b32' })).report.fromCache).toBe(false);
  expect((await loadTiny(tinyFolder(), { cacheDirectory })).report.fromCache).toBe(true);
});

const damages: [what: string, damage: (data: string, index: string) => void][] = [
  ['a truncated data file', (data) => truncateSync(data, 100)],
  ['a data file with a page of zeros', (data) => writeFileSync(data, Buffer.alloc(statSync(data).size))],
  ['a data file that is gone', (data) => rmSync(data)],
  ['an index that is gone', (_, index) => rmSync(index)],
  ['an empty index', (_, index) => writeFileSync(index, '')],
  [
    'an index with one byte changed',
    (_, index) => writeFileSync(index, readFileSync(index, 'utf8').replace(/"version":\d+/, '"version":999')),
  ],
  ['a data file with more bytes', (data) => writeFileSync(data, Buffer.concat([readFileSync(data), Buffer.alloc(1)]))],
];

test.each(damages)('%s is rebuilt, never used', async (_, damage) => {
  const path = tinyFolder();
  const cacheDirectory = temporaryFolder();
  await loadTiny(path, { cacheDirectory });
  const names = readdirSync(cacheDirectory);
  damage(join(cacheDirectory, names.find((n) => n.endsWith('.weights'))!), join(cacheDirectory, names.find((n) => n.endsWith('.json'))!));
  const again = await loadTiny(path, { cacheDirectory });
  expect(again.report.fromCache).toBe(false);
  expect(tinyLoaded(again.model)).toEqual([...tinyValues]);
  expect((await loadTiny(path, { cacheDirectory })).report.fromCache).toBe(true);
});

test('several loads that build one cache at once all end with the right values', async () => {
  const path = tinyFolder();
  const cacheDirectory = temporaryFolder();
  const loads = await Promise.all(Array.from({ length: 6 }, () => loadTiny(path, { cacheDirectory })));
  for (const { model } of loads) expect(tinyLoaded(model)).toEqual([...tinyValues]);
  expect(readdirSync(cacheDirectory).filter((name) => !name.endsWith('.use')).length).toBe(2);
});

test('a cache that cannot be written is a warning that says where, and the weights are kept in memory', async () => {
  const place = temporaryFile('not-a-folder', 'x');
  const warnings: string[] = [];
  const onWarning = (message: string) => void warnings.push(message);
  const { model, report } = await loadTiny(tinyFolder(), { cacheDirectory: join(place, 'cache'), onWarning });
  expect([tinyLoaded(model), report.fromCache]).toEqual([[...tinyValues], false]);
  expect(warnings).toEqual([expect.stringContaining(join(place, 'cache'))]);
});

test('cached weights that are removed while in use are an error, not zeros', async () => {
  const cacheDirectory = temporaryFolder();
  const { model } = await loadTiny(tinyFolder(), { cacheDirectory });
  rmSync(cacheDirectory, { recursive: true });
  expect((await failure(() => valuesIn(model, 'a'))).code).toBe('GRAFT_WEIGHT_CACHE');
});

const storagesOf = (model: Module) => [...model.namedParameters()].map(([, parameter]) => parameter.storage);

test('staged weights change no parameter before they are applied', async () => {
  const model = moduleOf(tinyShapes);
  await loadWeights(model, await open(tinyFolder()), inMemory);
  const before = storagesOf(model);
  const [a, b] = [...model.namedParameters()].map(([, parameter]) => parameter) as [Parameter, Parameter];
  for (const cacheDirectory of [null, temporaryFolder()]) {
    const other = tinyValues.map((value) => value + (cacheDirectory === null ? 1 : 2));
    const checkpoint = await openCheckpoint(tinyFolder(other));
    const staged = await stageWeights(
      new Map([
        ['b', b],
        ['a', a],
      ]),
      checkpoint,
      {
        ...inMemory,
        cacheDirectory,
      },
    );
    checkpoint[Symbol.dispose]();
    if (cacheDirectory === null) expect(storagesOf(model)).toEqual(before);
    expect(staged.report).toMatchObject({ parameters: 2, bytes: 96 * 4 });
    staged.apply();
    expect(tinyLoaded(model)).toEqual([...other]);
  }
});

test('a load that fails in its last parameter leaves the model as it was, and no files', async () => {
  const model = moduleOf(tinyShapes);
  await loadWeights(model, await open(tinyFolder()), inMemory);
  const before = storagesOf(model);
  const withNaN = tinyValues.with(95, Number.NaN);
  const cacheDirectory = temporaryFolder();
  const policy: LoadWeights['policy'] = () => 'int8b32';
  const broken = await open(tinyFolder(withNaN));
  for (const directory of [null, cacheDirectory]) {
    const error = await failure(() => loadWeights(model, broken, { policy, cacheDirectory: directory, rules: asNamed }));
    expect([error.code, error.where]).toEqual(['GRAFT_CHECKPOINT_CORRUPT', expect.stringContaining('tensor "b"')]);
  }
  expect(storagesOf(model)).toEqual(before);
  expect(readdirSync(cacheDirectory)).toEqual([]);
});

test('a wrong dtype, a format that does not fit, a missing tensor: found before anything is read or written', async () => {
  const path = temporaryFolder();
  writeFileSync(join(path, 'config.json'), '{}');
  writeFileSync(join(path, 'model.safetensors'), safetensorsOf({ a: { dtype: 'I64', shape: [4], data: new Uint8Array(32) } }));
  const cacheDirectory = join(temporaryFolder(), 'cache');
  const checkpoint = await open(path);
  const wrong = await failure(() =>
    loadWeights(moduleOf({ a: [4] }), checkpoint, { policy: float32Policy, cacheDirectory, rules: asNamed }),
  );
  expect([wrong.code, wrong.message]).toEqual(['GRAFT_CHECKPOINT_DTYPE', expect.stringMatching(/I64 cannot be loaded.*tensor "a"/s)]);
  const tiny = await open(tinyFolder());
  expect(
    (
      await failure(() =>
        loadWeights(moduleOf({ a: [2, 32], b: [32], c: [1] }), tiny, { policy: float32Policy, cacheDirectory, rules: asNamed }),
      )
    ).code,
  ).toBe('GRAFT_CHECKPOINT_MISSING_TENSOR');
  const narrow = temporaryFolder();
  writeFileSync(join(narrow, 'config.json'), '{}');
  writeFileSync(join(narrow, 'model.safetensors'), safetensorsOf({ a: { dtype: 'F32', shape: [3], data: f32(1, 2, 3) } }));
  const narrowCheckpoint = await open(narrow);
  expect(
    (await failure(() => loadWeights(moduleOf({ a: [3] }), narrowCheckpoint, { policy: () => 'int8b32', cacheDirectory, rules: asNamed })))
      .code,
  ).toBe('GRAFT_STORAGE_MISMATCH');
  expect(existsSync(cacheDirectory)).toBe(false);
});

test('an abort stops the conversion, keeps the model and leaves no files', async () => {
  const rows = 50_000;
  const path = temporaryFolder();
  writeFileSync(join(path, 'config.json'), '{}');
  writeFileSync(
    join(path, 'model.safetensors'),
    safetensorsOf({ a: { dtype: 'F32', shape: [rows, 64], data: new Uint8Array(rows * 256) } }),
  );
  const checkpoint = await open(path);
  const cacheDirectory = temporaryFolder();
  const model = moduleOf({ a: [rows, 64] });
  const controller = new AbortController();
  const stopped = new Error('enough');
  const onProgress = (fraction: number) => fraction > 0 && controller.abort(stopped);
  await expect(
    loadWeights(model, checkpoint, { policy: () => 'int8b32', cacheDirectory, rules: asNamed, signal: controller.signal, onProgress }),
  ).rejects.toBe(stopped);
  expect(storagesOf(model)).toEqual([null]);
  expect(readdirSync(cacheDirectory)).toEqual([]);
});

test('progress rises to 1', async () => {
  const fractions: number[] = [];
  const checkpoint = await open(join(cases, 'maverick-tiny'));
  await loadWeights(llama4(checkpoint.config as TextConfig), checkpoint, {
    ...inMemory,
    rules: rulesOf(checkpoint),
    cacheDirectory: temporaryFolder(),
    onProgress: (fraction) => fractions.push(fraction),
  });
  expect(fractions.at(-1)).toBe(1);
  expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
});

test('a parameter that two modules share is loaded once', async () => {
  const shared = new Parameter([32]);
  const model = moduleOf({ 'first.x': [1], 'second.x': [1] }) as Module & { first: { x: Parameter }; second: { x: Parameter } };
  model.first.x = shared;
  model.second.x = shared;
  const path = temporaryFolder();
  writeFileSync(join(path, 'config.json'), '{}');
  writeFileSync(
    join(path, 'model.safetensors'),
    safetensorsOf({ 'first.x': { dtype: 'F32', shape: [32], data: f32(...tinyValues.subarray(0, 32)) } }),
  );
  expect(await loadWeights(model, await open(path), inMemory)).toMatchObject({ parameters: 1, bytes: 128 });
});

test('a quantised GGUF keeps its grid under the faithful policy, q4_0 and q4_1 stacked as 4 bit with offsets', async () => {
  const ones = (blocks: number, block: number[]): Uint8Array => Uint8Array.from(Array.from({ length: blocks }, () => block).flat());
  const half = [0, 0x38]; // 0.5
  const q40 = [...half, ...Array<number>(16).fill(0x9a)]; // elements 0 to 15: (10 - 8) / 2, 16 to 31: (9 - 8) / 2
  const q41 = [...half, 0, 0x3c, ...Array<number>(16).fill(0x21)]; // 0.5 * 1 + 1, 0.5 * 2 + 1
  const q80 = [...half, ...Array<number>(32).fill(253)]; // -3 / 2
  const layer = (name: string, dims: number[], type: number, data: Uint8Array) => ({ name: `blk.0.${name}.weight`, dims, type, data });
  const norm = new Uint8Array(128);
  const tensors = [
    { name: 'token_embd.weight', dims: [32, 4], type: 8, data: ones(4, q80) },
    { name: 'output_norm.weight', dims: [32], type: 0, data: norm },
    layer('attn_norm', [32], 0, norm),
    layer('ffn_norm', [32], 0, norm),
    layer('attn_q', [32, 32], 2, ones(32, q40)),
    layer('attn_k', [32, 16], 3, ones(16, q41)),
    layer('attn_v', [32, 16], 3, ones(16, q41)),
    layer('attn_output', [32, 32], 2, ones(32, q40)),
    layer('ffn_gate', [32, 64], 3, ones(64, q41)),
    layer('ffn_up', [32, 64], 3, ones(64, q41)),
    layer('ffn_down', [64, 32], 2, ones(64, q40)),
  ];
  const checkpoint = await open(temporaryFile('tiny.gguf', ggufBytes({ keys: llamaKeys(), tensors })));
  const { path, metadata, tensors: read } = checkpoint;
  const asLlama4 = llama.readAs['Llama4ForCausalLM']!;
  const raw = asLlama4.config(llama.gguf!.config({ path, metadata: metadata!, tensors: read }));
  const model = llama4({ ...(raw as unknown as TextConfig), num_local_experts: 0 });
  await loadWeights(model, checkpoint, {
    policy: faithfulPolicy,
    cacheDirectory: null,
    rules: asLlama4.weights(family.parseConfig(raw) as never, 'gguf'),
  });
  const formats = Object.fromEntries(
    [...model.namedParameters()].map(([name, parameter]) => [name.replace('model.layers.0.', ''), parameter.dtype]),
  );
  expect(formats).toMatchObject({
    'model.embed_tokens.weight': 'int8b32',
    'self_attn.qkv_proj.weight': 'int4b32o',
    'self_attn.o_proj.weight': 'int4b32',
    'feed_forward.down_proj.weight': 'int4b32',
    'model.norm.weight': 'float32',
  });
  expect(new Set(valuesIn(model, 'model.embed_tokens.weight'))).toEqual(new Set([-1.5]));
  const [low, high] = [Array<number>(16).fill(1), Array<number>(16).fill(0.5)];
  expect(valuesIn(model, 'model.layers.0.self_attn.o_proj.weight').slice(0, 32)).toEqual([...low, ...high]);
  const qkv = valuesIn(model, 'model.layers.0.self_attn.qkv_proj.weight');
  expect(qkv.slice(0, 32)).toEqual([...low, ...high]);
  for (const [i, value] of qkv.slice(32 * 32, 32 * 32 + 32).entries())
    expect(Math.abs(value - (i < 16 ? 1.5 : 2))).toBeLessThanOrEqual(1e-6);
});

/** Maps float32, and keeps stacks of several types in ranges. */
const mapping: LoadWeights['policy'] = Object.assign(
  ({ sources, stack }: Parameters<LoadWeights['policy']>[0]): StorageFormat => {
    if (sources.length === 1) return 'float32';
    return formatOfRanges(stack!.map(({ dtype, rows }) => ({ format: dtype === 'F16' ? 'float16' : 'float32', rows })));
  },
  { mapsCheckpoint: true },
);
const stacked = new WeightRules({
  'up.w': stack(['a.w', 'b.w']),
  'mixed.w': stack(['a.w', 'h.w'], [2, 1]),
  'back.w': reordered('a.w', (row) => 1 - row),
});

function stackedCheckpoint(values: readonly number[]): Uint8Array {
  const rows = (from: number) => ({ dtype: 'F32', shape: [2, 2], data: f32(...values.slice(from, from + 4)) });
  const halves = { dtype: 'F16', shape: [1, 2], data: Uint8Array.of(0, 0x3c, 0, 0x40) }; // 1, 2
  return safetensorsOf({ 'a.w': rows(0), 'b.w': rows(4), 'h.w': halves });
}

test('tensors that a format keeps as they are stay in the checkpoint, also as rows of a stack; others go to the cache', async () => {
  const path = temporaryFolder();
  writeFileSync(join(path, 'config.json'), '{}');
  writeFileSync(join(path, 'model.safetensors'), stackedCheckpoint([1, 2, 3, 4, 5, 6, 7, 8]));
  const checkpoint = await open(path);
  const model = moduleOf({ 'up.w': [4, 2], 'mixed.w': [3, 2], 'back.w': [2, 2] });
  const cacheDirectory = temporaryFolder();
  const report = await loadWeights(model, checkpoint, { policy: mapping, cacheDirectory, rules: stacked });
  expect(report).toMatchObject({ fromCache: false, bytes: 32 + 16 + 4 + 16 });
  expect(valuesIn(model, 'up.w')).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(valuesIn(model, 'mixed.w')).toEqual([1, 2, 3, 4, 1, 2]);
  expect(valuesIn(model, 'back.w')).toEqual([3, 4, 1, 2]);
  const storages = new Map([...model.namedParameters()].map(([name, { storage }]) => [name, storage!]));
  const paths = (name: string): string[] => Object.values(storages.get(name)!.parts).map(({ location }) => location!.path);
  expect(storages.get('up.w')!.format).toBe('rows:float32*2,float32*2');
  expect(storages.get('mixed.w')!.format).toBe('rows:float32*2,float16*1');
  expect([...paths('up.w'), ...paths('mixed.w')]).toEqual(Array(4).fill(join(path, 'model.safetensors')));
  expect(paths('back.w')[0]).toContain(cacheDirectory);
  const data = readdirSync(cacheDirectory).find((name) => name.endsWith('.weights'))!;
  expect(statSync(join(cacheDirectory, data)).size).toBe(16);
});

test('a mapped file that is replaced or changed is refused, not read as another model', async () => {
  const path = temporaryFolder();
  const file = join(path, 'model.safetensors');
  writeFileSync(join(path, 'config.json'), '{}');
  writeFileSync(file, stackedCheckpoint([1, 2, 3, 4, 5, 6, 7, 8]));
  const model = moduleOf({ 'up.w': [4, 2], 'h.w': [1, 2] });
  const rules = new WeightRules({ 'up.w': stack(['a.w', 'b.w']) });
  const cacheDirectory = temporaryFolder();
  expect(await loadWeights(model, await open(path), { policy: mapping, cacheDirectory, rules })).toMatchObject({ fromCache: false });
  const [part] = Object.values([...model.namedParameters()].find(([name]) => name === 'up.w')![1].storage!.parts);
  part!.location!.verify!();
  rmSync(file);
  expect(() => part!.location!.verify!()).toThrow(/replaced or changed/);
  writeFileSync(file, stackedCheckpoint([8, 7, 6, 5, 4, 3, 2, 1]));
  expect(() => valuesIn(model, 'up.w')).toThrow(/replaced or changed/);
});

test('a format of rows that the tensors are not stacked by is refused', async () => {
  const path = temporaryFolder();
  writeFileSync(join(path, 'config.json'), '{}');
  writeFileSync(join(path, 'model.safetensors'), stackedCheckpoint([1, 2, 3, 4, 5, 6, 7, 8]));
  const load = (format: StorageFormat) => async () =>
    loadWeights(moduleOf({ 'up.w': [4, 2], 'h.w': [1, 2] }), await open(path), {
      policy: ({ name }) => (name === 'up.w' ? format : 'float32'),
      cacheDirectory: null,
      rules: new WeightRules({ 'up.w': stack(['a.w', 'b.w']) }),
    });
  await expect(load('rows:float32*1,float32*3')()).rejects.toThrow(/not stacked from the rows/);
  await expect(load('rows:float32*1,float32*1')()).rejects.toThrow(/matrices of 2 rows/);
});

test('experts are stacked alike in each matrix', () => {
  const tensorOf = (dtype: string) => ({ key: dtype, dtype, shape: [], file: null as never, offset: 0, byteLength: 0 });
  const [gate, up] = [tensorOf('Q4_K'), tensorOf('Q6_K')];
  const run = (tensor: typeof gate, first: number, elements: number) => ({ tensor, first, elements, arrangement: null });
  const segments = [0, 1, 2].flatMap((expert) => [run(gate, expert * 8, 8), run(up, expert * 4, 4)]);
  const stackOfShape = (shape: number[], runs = segments) =>
    stackOf({ shape, segments: runs })?.map((each) => [each.dtype, each.rows, each.segments.length]);
  expect(stackOfShape([3, 3, 4])).toEqual([
    ['Q4_K', 2, 1],
    ['Q6_K', 1, 1],
  ]);
  expect(stackOfShape([3, 3, 4], [...segments.slice(0, 5), run(gate, 40, 4)])).toBeUndefined();
  expect(stackOfShape([9, 4])).toEqual(segments.map(({ tensor, elements }) => [tensor.dtype, elements / 4, 1]));
});
