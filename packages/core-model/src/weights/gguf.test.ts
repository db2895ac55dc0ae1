import { expect, test } from 'vitest';
import { llama } from '../families/llama.ts';
import { openCheckpoint } from './checkpoint.ts';
import {
  concatenate,
  f32,
  failure,
  ggufBytes,
  ggufKey,
  ggufString,
  llamaKeys,
  type TestGguf,
  temporaryFile,
  u32,
  u64,
} from './checkpoint-files.fixture.ts';
import { openFileBytes } from './file-bytes.ts';
import { type GgufHeader, readGguf } from './gguf.ts';

function read(bytes: Uint8Array): GgufHeader {
  const file = openFileBytes(temporaryFile('model.gguf', bytes));
  try {
    return readGguf(file);
  } finally {
    file.close();
  }
}

const row = new Uint8Array(128); // 32 float32
const good = ggufBytes({
  keys: llamaKeys(),
  tensors: [
    { name: 'a', dims: [32], type: 0, data: row },
    { name: 'b', dims: [32, 2], type: 3, data: new Uint8Array(40) },
  ],
});
const one = (tensor: object): Uint8Array => ggufBytes({ tensors: [{ name: 'a', dims: [32], type: 0, data: row, ...tensor }] });
const corrupt = 'GRAFT_CHECKPOINT_CORRUPT';
const unsupported = 'GRAFT_GGUF_UNSUPPORTED';
const nested = (depth: number): Uint8Array =>
  depth === 0 ? concatenate([u32(0), u64(1), Uint8Array.of(7)]) : concatenate([u32(9), u64(1), nested(depth - 1)]);

const broken: [what: string, bytes: Uint8Array, code: string, message: RegExp][] = [
  ['an empty file', new Uint8Array(0), corrupt, /0 bytes, too few/],
  [
    'another kind of file',
    new TextEncoder().encode('PK, a zip file that is long enough'),
    corrupt,
    /begins with "PK, a zip.*not with "GGUF"/,
  ],
  [
    'a hundred thousand metadata keys',
    ggufBytes({ keyCount: 100_000n, keys: [new Uint8Array(1_300_000)] }),
    corrupt,
    /100000; at most 65536/,
  ],
  [
    'a string of 40 MB',
    ggufBytes({ keys: [ggufKey('k', 8, concatenate([u64(40_000_000), new Uint8Array(40_000_000)]))] }),
    corrupt,
    /40000000; at most 33554432/,
  ],
  ['version 1', ggufBytes({ version: 1 }), unsupported, /version 1/],
  ['a big-endian file', ggufBytes({ version: 0x03000000 }), unsupported, /big-endian/],
  ['2^60 tensors', ggufBytes({ tensorCount: 2n ** 60n }), corrupt, /number of tensors is 1152921504606846976/],
  ['a billion tensors', ggufBytes({ tensorCount: 10n ** 9n }), corrupt, /number of tensors is 1000000000/],
  ['2^60 metadata keys', ggufBytes({ keyCount: 2n ** 60n }), corrupt, /metadata keys is 1152921504606846976/],
  [
    'more keys than there are',
    ggufBytes({ keyCount: 3n, keys: llamaKeys().slice(0, 1), tensors: [{ name: 'a', dims: [32], type: 0, data: row }] }),
    corrupt,
    /length of a metadata key is 0/,
  ],
  [
    'a key length past the end',
    ggufBytes({ keyCount: 1n, keys: [u64(10n ** 6n), new Uint8Array(64)] }),
    corrupt,
    /length of a metadata key is 1000000/,
  ],
  [
    'a string length of 2^63',
    ggufBytes({ keys: [concatenate([ggufString('k'), u32(8), u64(2n ** 63n)])] }),
    corrupt,
    /length of a metadata string/,
  ],
  [
    'an array of 2^60 numbers',
    ggufBytes({ keys: [ggufKey('k', 9, concatenate([u32(4), u64(2n ** 60n)]))] }),
    corrupt,
    /length of an array/,
  ],
  ['an array of unknown type', ggufBytes({ keys: [ggufKey('k', 9, concatenate([u32(77), u64(0)]))] }), corrupt, /type 77/],
  [
    'an array of too many elements',
    ggufBytes({ keys: [ggufKey('k', 9, concatenate([u32(0), u64(5_000_000), new Uint8Array(5_000_000)]))] }),
    corrupt,
    /arrays of the metadata have more than 4194304 elements/,
  ],
  ['arrays in arrays without end', ggufBytes({ keys: [ggufKey('k', 9, nested(20))] }), corrupt, /nested more than 4 deep/],
  ['a metadata type that is unknown', ggufBytes({ keys: [ggufKey('k', 13, u64(0))] }), corrupt, /type 13 of "k" is unknown/],
  ['a boolean of 2', ggufBytes({ keys: [ggufKey('k', 7, Uint8Array.of(2))] }), corrupt, /boolean is 2/],
  ['a key that occurs twice', ggufBytes({ keys: [ggufKey('k', 4, u32(1)), ggufKey('k', 4, u32(2))] }), corrupt, /"k" occurs twice/],
  [
    'a key that is not UTF-8',
    ggufBytes({ keys: [concatenate([u64(2), Uint8Array.of(0xff, 0xfe), u32(4), u32(1)])] }),
    corrupt,
    /not UTF-8/,
  ],
  [
    'a tensor that occurs twice',
    ggufBytes({
      tensors: [
        { name: 'a', dims: [32], type: 0, data: row },
        { name: 'a', dims: [32], type: 0, data: row },
      ],
    }),
    corrupt,
    /occurs twice.*tensor "a"/s,
  ],
  ['nine dimensions', one({ dims: Array(9).fill(1) }), corrupt, /9 dimensions.*tensor "a"/s],
  ['a dimension of 2^60', one({ dims: [2n ** 60n] }), corrupt, /dimension is 1152921504606846976/],
  ['dimensions whose product overflows', one({ dims: [2 ** 32, 2 ** 32, 2 ** 32] }), corrupt, /more elements than any file/],
  ['an overflow behind a zero', one({ dims: [0, 2 ** 52, 2 ** 52] }), corrupt, /more elements than any file/],
  ['an unknown tensor type', one({ type: 99 }), unsupported, /type 99, which is unknown.*tensor "a"/s],
  ['a tensor type without values here', one({ type: 26 }), unsupported, /type I32.*tensor "a"/s],
  ['a row that is no whole number of blocks', one({ dims: [33], type: 2 }), corrupt, /Q4_0's blocks of 32/],
  ['an offset past the end', one({ offset: 4096 }), corrupt, /needs 128 bytes from 4096 of the data, which has 128/],
  ['an offset of 2^63', one({ offset: 2n ** 63n }), corrupt, /from 92233720368547/],
  ['a size past the end', one({ dims: [64] }), corrupt, /needs 256 bytes/],
  ['an offset between the alignments', one({ offset: 4, dims: [2] }), corrupt, /offset 4 is not a multiple/],
  [
    'tensors over each other',
    ggufBytes({
      tensors: [
        { name: 'a', dims: [32], type: 0, data: row },
        { name: 'b', dims: [8], type: 0, offset: 32 },
      ],
    }),
    corrupt,
    /overlaps "a".*tensor "b"/s,
  ],
  ['an alignment of 0', ggufBytes({ keys: [ggufKey('general.alignment', 4, u32(0))] }), corrupt, /"general.alignment" is 0/],
  ['an alignment of 24', ggufBytes({ keys: [ggufKey('general.alignment', 4, u32(24))] }), corrupt, /"general.alignment" is 24/],
  ['an alignment that is text', ggufBytes({ keys: [ggufKey('general.alignment', 8, ggufString('32'))] }), corrupt, /"general.alignment"/],
  [
    'a part of a split model under another name',
    ggufBytes({ keys: [ggufKey('split.count', 2, Uint8Array.of(3, 0))] }),
    unsupported,
    /the 3 parts/,
  ],
  ['a LoRA adapter', ggufBytes({ keys: [ggufKey('general.type', 8, ggufString('adapter'))] }), unsupported, /LoRA adapter.*merge/s],
  ['a projector', ggufBytes({ keys: [ggufKey('general.architecture', 8, ggufString('clip'))] }), unsupported, /mmproj.*language model/s],
  ['a vocabulary alone', ggufBytes({ keys: [ggufKey('general.architecture', 8, ggufString('llama'))] }), unsupported, /no tensors/],
  [
    'a Git LFS pointer',
    Buffer.from(`version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 1\n`),
    corrupt,
    /git lfs pull/,
  ],
  ['a page of HTML', Buffer.from('<!DOCTYPE html><html></html>'), corrupt, /HTML/],
];

test.each(broken)('%s is one clear error that names the file', async (_, bytes, code, message) => {
  const error = await failure(() => openCheckpoint(temporaryFile('model.gguf', bytes)));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
  expect(error.where).toContain('model.gguf');
  expect(error.fix).toBeDefined();
});

test('a file cut anywhere fails', async () => {
  const dataEnd = good.length - 24; // the last tensor's padding may be missing
  for (let length = 0; length < dataEnd; length += 13) expect((await failure(() => read(good.subarray(0, length)))).code).toBe(corrupt);
  expect(read(good.subarray(0, dataEnd)).tensors.size).toBe(2);
});

test('shapes are outermost first, keys named __proto__ are keys, and large whole numbers stay exact', () => {
  const keys = [
    ggufKey('__proto__', 4, u32(7)),
    ggufKey('big', 10, u64(2n ** 60n)),
    ggufKey('list', 9, concatenate([u32(8), u64(2), ggufString('x'), ggufString('é')])),
    ggufKey('f', 6, f32(0.5)),
  ];
  const { metadata, tensors } = read(
    ggufBytes({ keys, tensors: [{ name: '__proto__', dims: [32, 2], type: 8, data: new Uint8Array(68) }] }),
  );
  expect(metadata).toEqual(
    new Map<string, unknown>([
      ['__proto__', 7],
      ['big', 2n ** 60n],
      ['list', ['x', 'é']],
      ['f', 0.5],
    ]),
  );
  expect(tensors.get('__proto__')).toMatchObject({ dtype: 'Q8_0', shape: [2, 32], byteLength: 68 });
});

async function configOf(
  keys: Uint8Array[],
  tensors: TestGguf['tensors'] & object = [{ name: 'token_embd.weight', dims: [32, 4], type: 0, data: new Uint8Array(512) }],
): Promise<unknown> {
  const checkpoint = await openCheckpoint(temporaryFile('model.gguf', ggufBytes({ keys, tensors })));
  checkpoint[Symbol.dispose]();
  const { path, metadata, tensors: read } = checkpoint;
  return llama.gguf!.config({ path, metadata: metadata!, tensors: read });
}

test('a llama GGUF is a Llama', async () => {
  expect(await configOf(llamaKeys())).toMatchObject({
    architectures: ['LlamaForCausalLM'],
    hidden_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 16,
    intermediate_size: 64,
    rope_parameters: { rope_type: 'default', rope_theta: 10000 },
    max_position_embeddings: 64,
    vocab_size: 4,
    tie_word_embeddings: true,
  });
});

test('linear rope scaling becomes a rope type with its factor', async () => {
  const keys = [
    ...llamaKeys(),
    ggufKey('llama.rope.scaling.type', 8, ggufString('linear')),
    ggufKey('llama.rope.scaling.factor', 6, f32(4)),
  ];
  expect(await configOf(keys)).toMatchObject({ rope_parameters: { rope_type: 'linear', factor: 4, rope_theta: 10000 } });
});

const other: [what: string, keys: Uint8Array[], code: string, message: RegExp][] = [
  [
    'an unknown rope scaling',
    [...llamaKeys(), ggufKey('llama.rope.scaling.type', 8, ggufString('dynamic'))],
    unsupported,
    /"dynamic"; supported are/,
  ],
  [
    'an unknown number of chosen experts',
    [...llamaKeys(), ggufKey('llama.expert_count', 4, u32(8))],
    corrupt,
    /"llama.expert_used_count" is missing/,
  ],
  ['a partial rotation', llamaKeys().with(9, ggufKey('llama.rope.dimension_count', 4, u32(8))), unsupported, /Only 8 of 16/],
  ['a missing key', llamaKeys().toSpliced(1, 1), corrupt, /"llama.block_count" is missing/],
  ['a count of zero', llamaKeys().with(1, ggufKey('llama.block_count', 4, u32(0))), corrupt, /"llama.block_count" is 0/],
  [
    'four billion layers',
    llamaKeys().with(1, ggufKey('llama.block_count', 4, u32(2 ** 32 - 1))),
    corrupt,
    /"llama.block_count" is 4294967295/,
  ],
  [
    'a number that is text',
    llamaKeys().with(3, ggufKey('llama.embedding_length', 8, ggufString('32'))),
    corrupt,
    /"llama.embedding_length" is 32/,
  ],
];

test.each(other)('%s in the metadata is one clear error', async (_, keys, code, message) => {
  const error = await failure(() => configOf(keys));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
});

test('a table of rope factors divides the frequencies; another type than float32 is refused', async () => {
  const factors = [1, 1, 1, 1, 2, 4, 8, 8];
  const table = (type: number, data: Uint8Array) => ({ name: 'rope_freqs.weight', dims: [8], type, data });
  const embedding = { name: 'token_embd.weight', dims: [32, 4], type: 0, data: new Uint8Array(512) };
  const rope_parameters = { rope_type: 'factors', factors, rope_theta: 10000 };
  expect(await configOf(llamaKeys(), [embedding, table(0, f32(...factors))])).toMatchObject({ rope_parameters });
  const error = await failure(() => configOf(llamaKeys(), [embedding, table(1, new Uint8Array(16))]));
  expect([error.code, error.where]).toEqual([unsupported, expect.stringContaining('rope_freqs.weight')]);
});

test('a llama GGUF with experts is a Mixtral', async () => {
  const keys = [...llamaKeys(), ggufKey('llama.expert_count', 4, u32(8)), ggufKey('llama.expert_used_count', 4, u32(2))];
  expect(await configOf(keys)).toMatchObject({ architectures: ['MixtralForCausalLM'], num_local_experts: 8, num_experts_per_tok: 2 });
});
