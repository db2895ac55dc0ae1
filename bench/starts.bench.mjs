// What a start costs, and what the first request pays, with upstream's layers and with the overrides', on the emulated Gaudi.
//   npm run bench -- starts [--starts 20] [--layers 48] [--requests 20]
// A toy Llama 4 of Maverick's layout (dense and MoE in turns, every fourth layer NoPE) with random weights; every start compiles anew, with no recipe to read.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { LlmEngine } from '@graft/engine';
import llama4Hpu from '@graft/llama4-hpu';
import { definePlugin } from '@graft/registry';

const promptTokens = 40;
const hidden = 64;
const [heads, kvHeads, headDim] = [4, 2, 16];
const [experts, moeSize, denseSize, vocabulary] = [4, 64, 128, 320];

/** Each with the plugin that brings it and the options of its override. */
const variants = [
  { name: 'upstream', plugin: definePlugin({ ...llama4Hpu, overrides: [], hooks: [] }), overrideOptions: {} },
  { name: 'upstream-equivalent', plugin: llama4Hpu, overrideOptions: { branchFree: false } },
  { name: 'default', plugin: llama4Hpu, overrideOptions: {} },
];

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      starts: { type: 'string', default: '20' },
      layers: { type: 'string', default: '48' },
      requests: { type: 'string', default: '20' },
    },
  });
  const [starts, layers, requests] = [values.starts, values.layers, values.requests].map(Number);
  const folder = mkdtempSync(join(tmpdir(), 'graft-starts-'));
  try {
    const model = join(folder, 'model');
    writeCheckpoint(model, layers);
    const runs = new Map();
    for (let start = 0; start < starts; start += 1) {
      for (const variant of variants) {
        for (const warmUp of [true, false]) {
          const key = `${variant.name} | ${warmUp ? 'yes' : 'no'}`;
          runs.set(key, [...(runs.get(key) ?? []), await measureStart({ model, folder, variant, warmUp, requests })]);
        }
      }
    }
    return report(runs, { starts, layers, requests });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** One start and the requests after it, each timed to its first token. */
async function measureStart({ model, folder, variant, warmUp, requests }) {
  const cacheDirectory = mkdtempSync(join(folder, 'cache-'));
  const engine = await LlmEngine.start(
    {
      model,
      platform: 'hpu',
      mode: 'compile',
      plugins: [],
      overrideOptions: variant.overrideOptions,
      warmUp,
      onRecompile: 'allow',
      maxModelLength: 128,
      prefillTokens: 32,
      maxSequences: 4,
      cacheDirectory,
    },
    { pluginsInCode: [variant.plugin] },
  );
  try {
    const times = [];
    for (let request = 0; request <= requests; request += 1) times.push(await firstTokenMs(engine, request));
    const { captures, compiles, warmUpSeconds } = await engine.stats();
    const [first, ...steady] = times;
    return { captures, compiles, warmUpSeconds, first, steady: median(steady) };
  } finally {
    await engine.close();
    rmSync(cacheDirectory, { recursive: true, force: true });
  }
}

async function firstTokenMs(engine, seed) {
  const tokenIds = Array.from({ length: promptTokens }, (_, i) => (37 * i + 11 * seed + 3) % vocabulary);
  const start = performance.now();
  let first = 0;
  for await (const _ of engine.generate({ prompt: { tokenIds }, sampling: { temperature: 0, ignoreEos: true, maxTokens: 2 } })) {
    if (first === 0) first = performance.now() - start;
  }
  return first;
}

function report(runs, { starts, layers, requests }) {
  const rows = [...runs].map(([key, all]) => {
    const of = (pick) => all.map(pick);
    const [first, steady, ratio] = [of((r) => r.first), of((r) => r.steady), of((r) => r.first / r.steady)];
    const cells = [
      `${spread(of((r) => r.captures))} / ${spread(of((r) => r.compiles))}`,
      median(of((r) => r.warmUpSeconds)).toFixed(2),
      `${median(first).toFixed(0)} / ${Math.max(...first).toFixed(0)}`,
      `${median(steady).toFixed(1)} / ${Math.max(...steady).toFixed(1)}`,
      `${median(ratio).toFixed(1)} / ${Math.max(...ratio).toFixed(1)}`,
    ];
    return `| ${key} | ${cells.join(' | ')} |`;
  });
  return [
    `emulated Gaudi (ONNX Runtime on the CPU), a toy Maverick of ${layers} layers, hidden ${hidden}, random weights; ${starts} starts of each in turns,`,
    `in one process, without recipes; prompts of ${promptTokens} tokens in two pieces, ${requests} requests after the first for the steady state.`,
    'Graphs: captured after the last request / compiled (layer graphs and the segments between them). Times: median / maximum over the starts.',
    '',
    '| variant | warm-up | graphs | warm-up, s | first request, TTFT ms | steady TTFT ms | first / steady |',
    '|---|---|---|---|---|---|---|',
    ...rows,
    '',
    "Beside it, the seed's published first-request TTFT: 9081 -> 1037 ms, on another machine and at another scale (a Gaudi, the real model). Only the kind of",
    'effect compares: what is compiled while a request waits, that request pays.',
  ];
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** `5`, or `5-7` where starts differ. */
function spread(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least === most ? `${least}` : `${least}-${most}`;
}

/** config.json and random weights in float32, under the names of the published checkpoints. */
function writeCheckpoint(folder, layers) {
  mkdirSync(folder);
  const config = {
    architectures: ['Llama4ForCausalLM'],
    model_type: 'llama4_text',
    vocab_size: vocabulary,
    hidden_size: hidden,
    intermediate_size: moeSize,
    intermediate_size_mlp: denseSize,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    num_local_experts: experts,
    num_experts_per_tok: 1,
    interleave_moe_layer_step: 2,
    attention_chunk_size: 32,
    max_position_embeddings: 1024,
    use_qk_norm: false,
    attn_temperature_tuning: true,
    rms_norm_eps: 1e-5,
    rope_parameters: { rope_theta: 500000, rope_type: 'default' },
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  const shapes = {
    'model.embed_tokens.weight': [vocabulary, hidden],
    'model.norm.weight': [hidden],
    'lm_head.weight': [vocabulary, hidden],
  };
  for (let i = 0; i < layers; i += 1)
    for (const [name, shape] of Object.entries(layerShapes(i))) shapes[`model.layers.${i}.${name}`] = shape;
  writeFileSync(join(folder, 'model.safetensors'), safetensors(shapes));
}

function layerShapes(layer) {
  const mlp = (size) => ({ 'gate_proj.weight': [size, hidden], 'up_proj.weight': [size, hidden], 'down_proj.weight': [hidden, size] });
  const under = (prefix, shapes) => Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [`${prefix}.${name}`, shape]));
  const moe = {
    'feed_forward.router.weight': [experts, hidden],
    'feed_forward.experts.gate_up_proj': [experts, hidden, 2 * moeSize],
    'feed_forward.experts.down_proj': [experts, moeSize, hidden],
    ...under('feed_forward.shared_expert', mlp(moeSize)),
  };
  return {
    'self_attn.q_proj.weight': [heads * headDim, hidden],
    'self_attn.k_proj.weight': [kvHeads * headDim, hidden],
    'self_attn.v_proj.weight': [kvHeads * headDim, hidden],
    'self_attn.o_proj.weight': [hidden, heads * headDim],
    'input_layernorm.weight': [hidden],
    'post_attention_layernorm.weight': [hidden],
    ...(layer % 2 === 1 ? moe : under('feed_forward', mlp(denseSize))),
  };
}

/** Norms near 1, all else small, from a generator with a seed. */
function safetensors(shapes) {
  let state = 1;
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 - 0.5;
  };
  const header = {};
  const parts = [];
  let offset = 0;
  for (const [name, shape] of Object.entries(shapes)) {
    const isNorm = shape.length === 1;
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => (isNorm ? 1 : 0) + 0.1 * random());
    header[name] = { dtype: 'F32', shape, data_offsets: [offset, offset + values.byteLength] };
    offset += values.byteLength;
    parts.push(Buffer.from(values.buffer));
  }
  const text = Buffer.from(JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...parts]);
}
