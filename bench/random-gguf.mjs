// A GGUF in the shape of Llama 3.2 1B with random weights, in the types that llama.cpp's quantisation gives its tensors. Written once, into the user's cache.
import { randomFillSync } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from './default-model.mjs';

/** Blocks: elements, bytes, GGUF's number of the type, and where float16 scales lie, with values that give weights of about 0.02. */
const types = {
  F32: { elements: 1, bytes: 4, code: 0 },
  Q4_0: { elements: 32, bytes: 18, code: 2, scales: [[0, 0x1c19]] }, // 0.004
  Q4_K: {
    elements: 256,
    bytes: 144,
    code: 12,
    scales: [
      [0, 0x0896],
      [2, 0x1419],
    ],
  }, // 0.00014 and 0.001
  Q6_K: { elements: 256, bytes: 210, code: 14, scales: [[208, 0x010c]] }, // 0.000016
};
const shape = { layers: 16, hidden: 2048, intermediate: 8192, heads: 32, kvHeads: 8, headDim: 64, vocabulary: 128_256 };
const fixedKeys = {
  'general.architecture': 'llama',
  'general.name': 'Llama 3.2 1B shape, random weights',
  'llama.block_count': shape.layers,
  'llama.context_length': 8192,
  'llama.embedding_length': shape.hidden,
  'llama.feed_forward_length': shape.intermediate,
  'llama.attention.head_count': shape.heads,
  'llama.attention.head_count_kv': shape.kvHeads,
  'llama.rope.dimension_count': shape.headDim,
  'llama.vocab_size': shape.vocabulary,
  'tokenizer.ggml.model': 'gpt2',
  'tokenizer.ggml.pre': 'llama-bpe',
  'tokenizer.ggml.bos_token_id': 128_000,
  'tokenizer.ggml.eos_token_id': 128_001,
};

/** Path of the model in Q4_0 or Q4_K_M. */
export function llama1b(quantisation) {
  const folder = join(cacheFolder, 'bench');
  const path = join(folder, `llama-1b-shape.${quantisation}.gguf`);
  if (existsSync(path)) return path;
  console.log(`writing ${path} (about 0.8 GB)`);
  mkdirSync(folder, { recursive: true });
  write(`${path}.${process.pid}.tmp`, tensorsOf(quantisation));
  renameSync(`${path}.${process.pid}.tmp`, path);
  return path;
}

/** Names, sizes with the fastest first, and types. */
function tensorsOf(quantisation) {
  const { layers, hidden, intermediate, heads, kvHeads, headDim, vocabulary } = shape;
  const usual = quantisation === 'Q4_K_M' ? 'Q4_K' : 'Q4_0';
  const moreBits = (layer) => layer < layers / 8 || layer >= (7 * layers) / 8 || (layer - layers / 8) % 3 === 2;
  const better = (layer) => (quantisation === 'Q4_K_M' && moreBits(layer) ? 'Q6_K' : usual);
  const ofLayer = (i) =>
    [
      ['attn_norm', [hidden], 'F32'],
      ['attn_q', [hidden, heads * headDim], usual],
      ['attn_k', [hidden, kvHeads * headDim], usual],
      ['attn_v', [hidden, kvHeads * headDim], better(i)],
      ['attn_output', [heads * headDim, hidden], usual],
      ['ffn_norm', [hidden], 'F32'],
      ['ffn_gate', [hidden, intermediate], usual],
      ['ffn_up', [hidden, intermediate], usual],
      ['ffn_down', [intermediate, hidden], better(i)],
    ].map(([name, sizes, type]) => ({ name: `blk.${i}.${name}.weight`, sizes, type }));
  return [
    { name: 'token_embd.weight', sizes: [hidden, vocabulary], type: 'Q6_K' },
    ...Array.from({ length: layers }, (_, i) => ofLayer(i)).flat(),
    { name: 'output_norm.weight', sizes: [hidden], type: 'F32' },
  ];
}

function write(path, tensors) {
  const file = openSync(path, 'w');
  const header = [Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(Object.keys(fixedKeys).length + 5)];
  for (const [key, value] of Object.entries(fixedKeys))
    header.push(text(key), ...(typeof value === 'string' ? [u32(8), text(value)] : [u32(4), u32(value)]));
  header.push(text('llama.attention.layer_norm_rms_epsilon'), u32(6), f32(1e-5), text('llama.rope.freq_base'), u32(6), f32(500_000));
  const list = (key, type, items) => header.push(text(key), u32(9), u32(type), u64(items.length), Buffer.concat(items));
  const letters = [...Array(94)].map((_, i) => String.fromCharCode(33 + i));
  const words = ['Ġ', 'Ġt', ...letters];
  list(
    'tokenizer.ggml.tokens',
    8,
    Array.from({ length: shape.vocabulary }, (_, i) => text(words[i] ?? `<${i}>`)),
  );
  list(
    'tokenizer.ggml.token_type',
    5,
    Array.from({ length: shape.vocabulary }, (_, i) => u32(i < 128_000 ? 1 : 3)),
  );
  list('tokenizer.ggml.merges', 8, [text('Ġ t')]);
  let offset = 0;
  for (const { name, sizes, type } of tensors) {
    header.push(text(name), u32(sizes.length), ...sizes.map(u64), u32(types[type].code), u64(offset));
    offset += padded(bytesOf(sizes, type));
  }
  const head = Buffer.concat(header);
  writeSync(file, head);
  writeSync(file, Buffer.alloc(padded(head.length) - head.length));
  for (const { sizes, type } of tensors) {
    const bytes = random(bytesOf(sizes, type), types[type]);
    for (let done = 0; done < bytes.length; ) done += writeSync(file, bytes, done);
    writeSync(file, Buffer.alloc(padded(bytes.length) - bytes.length));
  }
  closeSync(file);
}

function random(length, { bytes: size, scales }) {
  const bytes = Buffer.alloc(length);
  if (scales === undefined) return Buffer.from(new Float32Array(length / 4).fill(1).buffer);
  randomFillSync(bytes);
  for (let block = 0; block < length; block += size) for (const [at, half] of scales) bytes.writeUInt16LE(half, block + at);
  return bytes;
}

const bytesOf = (sizes, type) => (sizes.reduce((product, size) => product * size, 1) / types[type].elements) * types[type].bytes;
const padded = (length) => Math.ceil(length / 32) * 32;
const u32 = (value) => Buffer.from(Uint32Array.of(value).buffer);
const u64 = (value) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
const f32 = (value) => Buffer.from(Float32Array.of(value).buffer);
const text = (value) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
