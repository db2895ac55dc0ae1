// What a start with a large model costs in time and memory: a synthetic checkpoint of Llama-3.2-1B's shape with random weights, as a GGUF in Q4_K and Q6_K
// (as the preset Q4_K_M mixes them) and as safetensors in bfloat16. The first start converts the weights into the cache; the second reads them from it.
//   npm run bench -- large [--forms q4_k_m,bfloat16] [--folder DIR]
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const [layers, hidden, heads, kvHeads, headDim, mlp, vocabulary] = [16, 2048, 32, 8, 64, 8192, 128_256];
const child = join(dirname(fileURLToPath(import.meta.url)), 'contenders', 'large-model.mjs');
const GiB = 2 ** 30;

export async function main(args) {
  const { values } = parseArgs({ args, options: { forms: { type: 'string', default: 'q4_k_m,bfloat16' }, folder: { type: 'string' } } });
  const folder = values.folder ?? mkdtempSync(join(tmpdir(), 'graft-large-'));
  mkdirSync(folder, { recursive: true });
  const rows = [
    '| checkpoint | file | start | seconds | first token of 128, s | tokens/s | kept, GiB | peak, GiB | peak / kept |',
    '|---|---|---|---|---|---|---|---|---|',
  ];
  try {
    for (const form of values.forms.split(',')) {
      const model = write(form, folder);
      const cache = mkdtempSync(join(folder, 'cache-'));
      for (const start of ['first', 'second']) {
        const run = await measure(model, cache, 'auto');
        const size = (statSync(form === 'bfloat16' ? join(model, 'model.safetensors') : model).size / GiB).toFixed(2);
        const memory = [run.kept / GiB, run.peak / GiB, run.peak / run.kept].map((value) => value.toFixed(2));
        const speed = [run.startSeconds.toFixed(1), run.firstTokenSeconds.toFixed(2), run.tokensPerSecond.toFixed(1)];
        rows.push(`| ${[form, `${size} GiB`, start, ...speed, ...memory].join(' | ')} |`);
      }
      rmSync(cache, { recursive: true });
    }
    return [`Llama-3.2-1B's shape, random weights; memory is anonymous memory of the process (RssAnon), sampled every 10 ms`, '', ...rows];
  } finally {
    if (values.folder === undefined) rmSync(folder, { recursive: true, force: true });
  }
}

/** One start in a process of its own, whose anonymous memory is watched. */
async function measure(model, cache, weights) {
  const started = spawn(process.execPath, [child, model, cache, weights], { stdio: ['pipe', 'pipe', 'inherit'] });
  let peak = 0;
  const anonymous = () => {
    const [, kilobytes = 0] = /RssAnon:\s+(\d+)/.exec(readFileSync(`/proc/${started.pid}/status`, 'utf8')) ?? [];
    return Number(kilobytes) * 1024;
  };
  const watch = setInterval(() => (peak = Math.max(peak, anonymous())), 10);
  let printed = '';
  const line = await new Promise((resolve, reject) => {
    started.on('error', reject).on('exit', (code) => reject(new Error(`the child ended with ${code}`)));
    started.stdout.on('data', (text) => {
      printed += text;
      if (printed.includes('\n')) resolve(printed);
    });
  }).finally(() => clearInterval(watch));
  const kept = anonymous();
  started.removeAllListeners('exit');
  const ended = new Promise((resolve) => started.on('exit', resolve));
  started.stdin.end();
  await ended;
  return { ...JSON.parse(line), kept, peak };
}

/** Every parameter: its name in safetensors, in a GGUF, and its shape. */
function* parameters() {
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

const product = (shape) => shape.reduce((all, dim) => all * dim, 1);

function write(form, folder) {
  const path = join(folder, form === 'bfloat16' ? 'bfloat16' : `${form}.gguf`);
  if (!existsSync(path)) (form === 'bfloat16' ? writeSafetensors : writeGguf)(path);
  return path;
}

/** Random bytes, again and again. @param block makes a block of the type valid. */
function writeRandom(file, elements, { size, count }, block) {
  const blocks = Buffer.alloc(size * 4096);
  for (let i = 0; i < blocks.length; i += 4) blocks.writeInt32LE((Math.random() * 2 ** 32) | 0, i);
  for (let at = 0; at < blocks.length; at += size) block(blocks, at);
  for (let left = (elements / count) * size; left > 0; left -= blocks.length) writeSync(file, blocks, 0, Math.min(left, blocks.length));
}

const half = (blocks, at) => blocks.writeUInt16LE(0x0a00 + ((Math.random() * 255) | 0), at); // about 2 ** -12
/** GGML types by number, with their blocks. */
const types = {
  F32: { id: 0, size: 4, count: 1, block: (blocks, at) => blocks.writeFloatLE(1, at) },
  Q4_K: { id: 12, size: 144, count: 256, block: (blocks, at) => [half(blocks, at), half(blocks, at + 2)] },
  Q6_K: { id: 14, size: 210, count: 256, block: (blocks, at) => half(blocks, at + 208) },
};

function writeGguf(path) {
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
  const tensors = [...parameters()].map(([, name, shape], index) => {
    const isLarge = /attn_v|ffn_down|token_embd/.test(name) && (index % 2 === 0 || name === 'token_embd');
    const type = shape.length === 1 ? types.F32 : isLarge ? types.Q6_K : types.Q4_K;
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
}

function writeSafetensors(folder) {
  mkdirSync(folder);
  const config = {
    architectures: ['LlamaForCausalLM'],
    hidden_size: hidden,
    intermediate_size: mlp,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
  };
  const more = {
    vocab_size: vocabulary,
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-5,
    rope_theta: 500_000,
    tie_word_embeddings: true,
    bos_token_id: 128_000,
    eos_token_id: 128_001,
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, ...more }));
  let offset = 0;
  const entries = [...parameters()].map(([name, , shape]) => {
    const bytes = product(shape) * 2;
    offset += bytes;
    return [`${name}.weight`, { dtype: 'BF16', shape, data_offsets: [offset - bytes, offset] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const file = openSync(join(folder, 'model.safetensors'), 'w');
  writeSync(file, Buffer.concat([length, header]));
  const small = (blocks, at) => blocks.writeUInt16LE(0x3c00 | ((Math.random() * 2 ** 16) & 0x80ff), at); // about 2 ** -7
  for (const [, { shape }] of entries) writeRandom(file, product(shape), { size: 2, count: 1 }, small);
  closeSync(file);
}
