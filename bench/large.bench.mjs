// What a start with a large model costs in time and memory: a synthetic checkpoint of Llama-3.2-1B's shape with random weights, as a GGUF in Q4_K and Q6_K
// (as the preset Q4_K_M mixes them) and as safetensors in bfloat16. The first start converts the weights into the cache; the second reads them from it.
//   npm run bench -- large [--forms q4_k_m,bfloat16] [--folder DIR]
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { parameters, product, shape as sizes, writeGguf, writeRandom } from './random-llama.mjs';

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

/** As the preset Q4_K_M mixes them. */
function mixed(name, index) {
  return name === 'token_embd' || (/attn_v|ffn_down/.test(name) && index % 2 === 0) ? 'Q6_K' : 'Q4_K';
}

function write(form, folder) {
  const path = join(folder, form === 'bfloat16' ? 'bfloat16' : `${form}.gguf`);
  if (existsSync(path)) return path;
  if (form === 'bfloat16') writeSafetensors(path);
  else writeGguf(path, sizes, mixed);
  return path;
}

function writeSafetensors(folder) {
  const { layers, hidden, heads, kvHeads, headDim, mlp, vocabulary } = sizes;
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
  const entries = [...parameters(sizes)].map(([name, , shape]) => {
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
