// Checkpoints of Llama-3.2-1B's shape with random weights.
import { closeSync, openSync, writeSync } from 'node:fs';

/** Of Llama-3.2-1B. */
export const shape = { layers: 16, hidden: 2048, heads: 32, kvHeads: 8, headDim: 64, mlp: 8192, vocabulary: 128_256 };

/** Every parameter: its name in safetensors, in a GGUF, and its shape. */
export function* parameters({ layers, hidden, heads, kvHeads, headDim, mlp, vocabulary }) {
  yield ['model.embed_tokens', 'token_embd', [vocabulary, hidden]];
  for (let layer = 0; layer < layers; layer += 1) {
    const at = (name, gguf, shape) => [`model.layers.${layer}.${name}`, `blk.${layer}.${gguf}`, shape];
    yield at('input_layernorm', 'attn_norm', [hidden]);
    yield at('self_attn.q_proj', 'attn_q', [heads * headDim, hidden]);
    yield at('self_attn.k_proj', 'attn_k', [kvHeads * headDim, hidden]);
    yield at('self_attn.v_proj', 'attn_v', [kvHeads * headDim, hidden]);
    yield at('self_attn.o_proj', 'attn_output', [hidden, heads * headDim]);
    yield at('post_attention_layernorm', 'ffn_norm', [hidden]);
    yield at('mlp.gate_proj', 'ffn_gate', [mlp, hidden]);
    yield at('mlp.up_proj', 'ffn_up', [mlp, hidden]);
    yield at('mlp.down_proj', 'ffn_down', [hidden, mlp]);
  }
  yield ['model.norm', 'output_norm', [hidden]];
}

export const product = (sizes) => sizes.reduce((all, size) => all * size, 1);

/** Random bytes, again and again. @param block makes a block of the type valid. */
export function writeRandom(file, elements, { size, count }, block) {
  const blocks = Buffer.alloc(size * 4096);
  for (let i = 0; i < blocks.length; i += 4) blocks.writeInt32LE((Math.random() * 2 ** 32) | 0, i);
  for (let at = 0; at < blocks.length; at += size) block(blocks, at);
  for (let left = (elements / count) * size; left > 0; left -= blocks.length) writeSync(file, blocks, 0, Math.min(left, blocks.length));
}

const half = (blocks, at) => blocks.writeUInt16LE(0x0a00 + ((Math.random() * 255) | 0), at); // about 2 ** -12
/** GGML types by number, with their blocks. */
export const types = {
  F32: { id: 0, size: 4, count: 1, block: (blocks, at) => blocks.writeFloatLE(1, at) },
  F16: { id: 1, size: 2, count: 1, block: (blocks, at) => blocks.writeUInt16LE(0x2000 | ((Math.random() * 2 ** 16) & 0x83ff), at) },
  Q4_0: { id: 2, size: 18, count: 32, block: half },
  Q4_K: { id: 12, size: 144, count: 256, block: (blocks, at) => [half(blocks, at), half(blocks, at + 2)] },
  Q6_K: { id: 14, size: 210, count: 256, block: (blocks, at) => half(blocks, at + 208) },
};

/** A GGUF. @param typeOf the name of a matrix's type; vectors are F32. @returns the bytes of all matrices */
export function writeGguf(path, sizes, typeOf) {
  const { layers, hidden, heads, kvHeads, mlp, vocabulary } = sizes;
  const text = (value) => Buffer.concat([number(8, value.length), Buffer.from(value)]);
  const number = (bytes, value) => {
    const buffer = Buffer.alloc(8);
    buffer.writeBigUInt64LE(BigInt(value));
    return buffer.subarray(0, bytes);
  };
  const float = (value) => Buffer.from(Float32Array.of(value).buffer);
  const keys = {
    block_count: layers,
    embedding_length: hidden,
    'attention.head_count': heads,
    'attention.head_count_kv': kvHeads,
    feed_forward_length: mlp,
    context_length: 8192,
  };
  const metadata = [
    [text('general.architecture'), number(4, 8), text('llama')],
    ...Object.entries(keys).map(([key, value]) => [text(`llama.${key}`), number(4, 4), number(4, value)]),
    [text('llama.attention.layer_norm_rms_epsilon'), number(4, 6), float(1e-5)],
    [text('tokenizer.ggml.model'), number(4, 8), text('gpt2')],
    [text('tokenizer.ggml.pre'), number(4, 8), text('llama-bpe')],
    [
      text('tokenizer.ggml.tokens'),
      number(4, 9),
      number(4, 8),
      number(8, vocabulary),
      ...Array.from({ length: vocabulary }, (_, id) => text(`t${id}`)),
    ],
    [text('tokenizer.ggml.merges'), number(4, 9), number(4, 8), number(8, 0)],
    [text('llama.rope.freq_base'), number(4, 6), float(500_000)],
  ];
  let offset = 0;
  const tensors = [...parameters(sizes)].map(([, name, shape], index) => {
    const type = shape.length === 1 ? types.F32 : types[typeOf(name, index)];
    const tensor = { name: `${name}.weight`, shape, type, offset };
    offset += Math.ceil(((product(shape) / type.count) * type.size) / 32) * 32;
    return tensor;
  });
  const infos = tensors.map(({ name, shape, type, offset: at }) => [
    text(name),
    number(4, shape.length),
    ...shape.toReversed().map((dim) => number(8, dim)),
    number(4, type.id),
    number(8, at),
  ]);
  const header = Buffer.concat([
    Buffer.from('GGUF'),
    number(4, 3),
    number(8, tensors.length),
    number(8, metadata.length),
    ...metadata.flat(),
    ...infos.flat(),
  ]);
  const file = openSync(path, 'w');
  writeSync(file, Buffer.concat([header, Buffer.alloc((32 - (header.length % 32)) % 32)]));
  for (const { shape, type } of tensors) {
    writeRandom(file, product(shape), type, type.block);
    const bytes = (product(shape) / type.count) * type.size;
    writeSync(file, Buffer.alloc((32 - (bytes % 32)) % 32));
  }
  closeSync(file);
  return tensors.reduce((bytes, { shape, type }) => bytes + (shape.length === 1 ? 0 : (product(shape) / type.count) * type.size), 0);
}
