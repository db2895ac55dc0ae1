// What `bench -- gpu` prints, here or from a bundle: the device, parity on it, and the speed of Llama-3.2-1B's shape through `LlmEngine`.
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LlmEngine } from '@graft/engine';
import { DeviceBuffer, devices, GraphBuilder, GraphMemory, loadGgml, probeDevices, Stream, TensorArena } from '@graft/ggml';
import { product, shape, writeGguf } from '../random-llama.mjs';

/** One small case a family. */
export const familyCases = (
  'dense-tiny llama3rope-tiny mistral-window mixtral-top2 qwen2-tied qwen3-norms qwen3moe-dense1 gemma2-caps gemma3-pattern3 phi3-short ' +
  'granite-scales olmo2-post smollm3-nope gptoss-sinks scout-tiny maverick-tiny'
).split(' ');

/** Where a block has its halves, which random bytes would make infinite; MXFP4's exponent is byte 0. */
const halvesOf = {
  F16: [0],
  BF16: [],
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  Q2_K: [80, 82],
  Q3_K: [108],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
  IQ4_NL: [0],
  IQ4_XS: [0],
  MXFP4: [],
};
/** Elements and bytes of a block. */
const blocks = { F16: [1, 2], BF16: [1, 2], Q4_0: [32, 18], Q4_1: [32, 20], Q5_0: [32, 22], Q5_1: [32, 24], Q8_0: [32, 34] };
Object.assign(blocks, { Q2_K: [256, 84], Q3_K: [256, 110], Q4_K: [256, 144], Q5_K: [256, 176], Q6_K: [256, 210] });
Object.assign(blocks, { IQ4_NL: [32, 18], IQ4_XS: [256, 136], MXFP4: [32, 17] });

const contextTokens = 1024;
const decodeTokens = 64;

/**
 * @param options.platform `vulkan`, `cuda`, `metal`, or `cpu` for ggml there
 * @param options.layers of the model of Llama-3.2-1B's shape; fewer are taken where a type would take longer than `secondsPerType`
 * @param options.cases the folder of the small cases
 * @returns the lines of a report in Markdown
 */
export async function measure({
  platform,
  app,
  cases,
  layers = shape.layers,
  vocabulary = shape.vocabulary,
  secondsPerType = 120,
  forms = ['Q4_0', 'Q4_K', 'F16'],
  say,
}) {
  const started = { platform, app };
  say('looking for the device');
  const lines = await deviceLines(acceleratorOf(started));
  lines.push('| small case | logits: largest difference / largest logit | greedy tokens |', '|---|---|---|');
  const known = readdirSync(cases);
  let isLate = limit(4 * secondsPerType);
  for (const name of familyCases.filter((each) => known.includes(each))) {
    say(`parity of ${name}`);
    lines.push(`| ${name} | ${isLate() ? notTried : await inChild({ ...started, part: 'family', folder: join(cases, name) })} |`);
  }
  lines.push('', '| weights | relative rms, 1 row | relative rms, 32 rows |', '|---|---|---|');
  isLate = limit(4 * secondsPerType);
  for (const type of Object.keys(blocks)) {
    say(`weights of type ${type}`);
    lines.push(`| ${type} | ${isLate() ? notTried : await inChild({ ...started, part: 'weight', type })} |`);
  }
  lines.push(
    '',
    '| weights | layers | start, s | first token of 512, s | prefill, tokens/s | decode, tokens/s | decode of 8, tokens/s | weights read, GB/s |',
    '|---|---|---|---|---|---|---|---|',
  );
  for (const form of forms) {
    say(`Llama-3.2-1B's shape in ${form}`);
    lines.push(`| ${form} | ${await inChild({ ...started, part: 'speed', form, layers, vocabulary, secondsPerType })} |`);
  }
  return [
    ...lines,
    '',
    `Llama-3.2-1B's shape${vocabulary === shape.vocabulary ? '' : ` with a vocabulary of ${vocabulary}`}, random weights; sampled (temperature 0.8, top-p 0.95) and streamed; ${decodeTokens} tokens after each prompt,`,
    '8 where the prompt is of 64; median of 3.',
  ];
}

const acceleratorOf = ({ platform }) => (platform === 'cpu' ? null : platform);

const engineFor =
  ({ platform, app }) =>
  (options) =>
    LlmEngine.start({
      app,
      platform,
      plugins: platform === 'cpu' ? ['@graft/cpu', '@graft/gpu'] : ['@graft/gpu'],
      platformOptions: platform === 'cpu' ? { backend: 'ggml' } : {},
      ...options,
    });

const parts = {
  family: (task) => compareCase(task.folder, engineFor(task)),
  weight: (task) => weightErrors(task.type, acceleratorOf(task)),
  speed: (task) => speedCells({ ...task, engineOf: engineFor(task) }),
};

/** The cells of a part. Each one has a process of its own, because a driver that fails ends the process. */
function inChild(task) {
  return new Promise((resolve) => {
    execFile(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(task)], (error, stdout, stderr) => {
      const [, cells] = /^cells: (.*)$/m.exec(stdout) ?? [];
      const said = stderr.trim().split('\n')[0].slice(0, 200);
      resolve(cells ?? `FAILED: the process ended with ${error?.signal ?? `code ${error?.code}`}${said === '' ? '' : `: ${said}`} | -`);
    });
  });
}

async function deviceLines(accelerator) {
  const found = await probeDevices(accelerator);
  return [
    '| device | memory, free of all | driver | fault |',
    '|---|---|---|---|',
    ...found.map(
      ({ description, memory, driver, fault }) =>
        `| ${description} | ${gibibytes(memory.free)} of ${gibibytes(memory.total)} | ${driver ?? '-'} | ${fault ?? 'none'} |`,
    ),
    '',
  ];
}

/** Logits along the published implementation's tokens, on weights in float32. */
async function compareCase(folder, engineOf) {
  const expected = readSafetensors(join(folder, 'expected.safetensors'));
  const [batch, promptLength] = expected.input_ids.shape;
  const steps = expected.decode_ids.shape[1];
  const vocabulary = expected.decode_logits.shape.at(-1);
  const rowOf = ({ data }, row) => data.slice((row * data.length) / batch, ((row + 1) * data.length) / batch);
  const engine = await engineOf({ model: folder, weights: 'float32', maxSequences: batch, maxModelLength: promptLength + steps });
  try {
    let [worst, largest, same] = [0, 0, 0];
    const compareRow = async (row) => {
      const forcedTokenIds = [...rowOf(expected.decode_ids, row)].map(Number);
      const logits = new Map();
      const observer = { forcedTokenIds, onLogits: (position, values) => logits.set(position, values.slice()) };
      const prompt = { tokenIds: [...rowOf(expected.input_ids, row)].map(Number) };
      const sampling = { temperature: 0, ignoreEos: true, maxTokens: steps };
      for await (const _ of engine.generate({ prompt, sampling }, { observer }));
      const wanted = rowOf(expected.decode_logits, row);
      for (let step = 0; step < steps; step++) {
        const actual = logits.get(promptLength - 1 + step);
        const right = wanted.subarray(step * vocabulary, (step + 1) * vocabulary);
        for (const [i, value] of right.entries()) {
          worst = Math.max(worst, Math.abs(value - (actual?.[i] ?? Number.NaN)) || (actual === undefined ? Number.POSITIVE_INFINITY : 0));
          largest = Math.max(largest, Math.abs(value));
        }
        if (actual !== undefined && argmax(actual) === argmax(right)) same += 1;
      }
    };
    await Promise.all(Array.from({ length: batch }, (_, row) => compareRow(row)));
    return `${(worst / largest).toExponential(1)} | ${same} of ${batch * steps}`;
  } finally {
    await engine.close();
  }
}

/** A product with random weights of a type, against the same values in float32: ggml's CPU unpacks them, JavaScript multiplies. */
async function weightErrors(type, accelerator) {
  loadGgml(accelerator);
  const all = devices();
  const cpu = all.find((device) => device.type === 'CPU');
  const device = accelerator === null ? cpu : all.find((each) => each.type !== 'CPU');
  const errors = [];
  for (const count of [1, 32]) errors.push((await productError(type, count, device, cpu)).toExponential(1));
  return errors.join(' | ');
}

async function productError(type, count, device, cpu) {
  const [width, height] = [512, 128];
  const [elements, bytes] = blocks[type];
  const data = new Uint8Array(((width * height) / elements) * bytes).map(() => Math.random() * 256);
  const view = new DataView(data.buffer);
  for (let at = 0; at < data.length; at += bytes) {
    for (const half of halvesOf[type]) view.setUint16(at + half, (type === 'F16' ? 0x3000 : 0x2000) | (Math.random() * 1024), true);
    if (type === 'BF16') view.setUint16(at, 0x3d80 | ((Math.random() * 2 ** 16) & 0x807f), true);
    if (type === 'MXFP4') data[at] = 120 + Math.random() * 8;
  }
  const x = Float32Array.from({ length: width * count }, () => Math.random() * 2 - 1);
  const weights = await onDevice(cpu, type, [width, height], data, (builder, weight) => {
    const rows = builder.input('I32', [height], { below: height });
    return [builder.getRows(weight, rows), [[rows, Int32Array.from({ length: height }, (_, i) => i)]]];
  });
  const result = await onDevice(device, type, [width, height], data, (builder, weight) => {
    const input = builder.input('F32', [width, count]);
    return [builder.matmul(weight, input), [[input, x]]];
  });
  let [error, size] = [0, 0];
  for (let row = 0; row < count; row++) {
    for (let out = 0; out < height; out++) {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += weights[out * width + i] * x[row * width + i];
      error += (result[row * height + out] - sum) ** 2;
      size += sum ** 2;
    }
  }
  return Math.sqrt(error / size);
}

/** What a graph with one weight gives. */
async function onDevice(device, type, sizes, data, make) {
  const arena = new TensorArena();
  const weight = arena.tensor(type, sizes);
  const buffer = DeviceBuffer.holding(device, [weight]);
  const stream = new Stream(device, { threads: 1 });
  const memory = new GraphMemory(device);
  try {
    buffer.write(weight, data);
    const builder = new GraphBuilder();
    const [output, inputs] = make(builder, weight);
    const graph = builder.build([output], memory);
    await stream.compute(graph, new Map(inputs));
    const result = new Float32Array(output.elements);
    graph.read(output, result);
    graph[Symbol.dispose]();
    return result;
  } finally {
    for (const each of [memory, stream, buffer, arena]) each[Symbol.dispose]();
  }
}

async function speedCells({ engineOf, form, layers, vocabulary, secondsPerType }) {
  const folder = mkdtempSync(join(tmpdir(), 'graft-bench-gpu-'));
  try {
    const chosen = await layersWithin(secondsPerType, { engineOf, form, layers, vocabulary, folder });
    return await speedRow(form, chosen, layers, { engineOf, vocabulary, folder });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** As many layers as fit into the time, judged by a model of one layer. */
async function layersWithin(seconds, { engineOf, form, layers, vocabulary, folder }) {
  if (layers === 1) return { layers, prompt: 512, tokens: decodeTokens };
  const started = performance.now();
  const { engine, path } = await open(form, 1, { engineOf, vocabulary, folder });
  try {
    await answers(engine, 1, 64, 4);
    const from = performance.now();
    await answers(engine, 1, 64, 4);
    const perLayer = (performance.now() - from) / 1000;
    // A layer of the whole run: a prompt of 512 four times in two sizes of batch, and their tokens.
    const wholePerLayer = perLayer * 40;
    if ((performance.now() - started) / 1000 + wholePerLayer * layers < seconds) return { layers, prompt: 512, tokens: decodeTokens };
    const fewer = Math.max(1, Math.min(layers, Math.floor(seconds / wholePerLayer)));
    return fewer > 1 ? { layers: fewer, prompt: 512, tokens: decodeTokens } : { layers: 1, prompt: 64, tokens: 8 };
  } finally {
    await engine.close();
    rmSync(path);
  }
}

async function open(form, layers, { engineOf, vocabulary, folder }) {
  const path = join(folder, `${form}-${layers}.gguf`);
  const bytes = writeGguf(path, { ...shape, layers, vocabulary }, () => form);
  const from = performance.now();
  const sizes = { maxSequences: 8, maxModelLength: contextTokens, prefillTokens: 512 };
  const engine = await engineOf({ model: path, ...sizes, cacheDirectory: join(folder, 'cache') });
  return { engine, path, bytes, seconds: (performance.now() - from) / 1000 };
}

async function speedRow(form, { layers, prompt, tokens }, wanted, { engineOf, vocabulary, folder }) {
  const { engine, path, bytes, seconds } = await open(form, layers, { engineOf, vocabulary, folder });
  try {
    await answers(engine, 1, prompt, 4); // the kernels of these shapes
    await answers(engine, 8, prompt, 4);
    const one = [];
    for (let i = 0; i < 3; i++) one.push(await answers(engine, 1, prompt, tokens));
    const eight = await answers(engine, 8, prompt, tokens);
    const [first, decode] = ['firstSeconds', 'tokensPerSecond'].map((key) => median(one.map((each) => each[key])));
    const fewer = layers === wanted ? layers : `${layers} of ${wanted}, for the time`;
    const cells = [
      fewer,
      seconds.toFixed(1),
      `${first.toFixed(3)}${prompt === 512 ? '' : ` (of ${prompt})`}`,
      (prompt / first).toFixed(0),
      decode.toFixed(1),
      eight.tokensPerSecond.toFixed(1),
      ((bytes * decode) / 1e9).toFixed(0),
    ];
    return cells.join(' | ');
  } finally {
    await engine.close();
    rmSync(path);
  }
}

let asked = 0;

/** Answers at once, each with a prompt of its own. Tokens a second count from the moment when each has its first token. */
async function answers(engine, count, promptTokens, maxTokens) {
  const from = performance.now();
  const firsts = [];
  const tokensAt = [];
  const one = async () => {
    asked += 1;
    const tokenIds = Array.from({ length: promptTokens }, (_, i) => ((i + 1) * 7919 + asked * 104_729) % 16_000);
    const sampling = { temperature: 0.8, topP: 0.95, seed: asked, ignoreEos: true, maxTokens };
    let isFirst = true;
    for await (const { tokenIds: ids } of engine.generate({ prompt: { tokenIds }, sampling })) {
      const now = performance.now();
      if (isFirst) firsts.push(now);
      isFirst = false;
      for (const _ of ids) tokensAt.push(now);
    }
  };
  await Promise.all(Array.from({ length: count }, one));
  const all = Math.max(...firsts);
  const later = tokensAt.filter((at) => at > all);
  return { firstSeconds: (Math.min(...firsts) - from) / 1000, tokensPerSecond: later.length / ((Math.max(...tokensAt) - all) / 1000) };
}

function readSafetensors(path) {
  const file = readFileSync(path);
  const length = Number(file.readBigUInt64LE(0));
  const arrays = { F32: Float32Array, I64: BigInt64Array, I32: Int32Array };
  const { __metadata__, ...tensors } = JSON.parse(file.subarray(8, 8 + length).toString());
  const read = ({ dtype, shape: sizes, data_offsets: [from, to] }) => {
    const bytes = Uint8Array.from(file.subarray(8 + length + from, 8 + length + to));
    return { shape: sizes, data: arrays[dtype] === undefined ? null : new arrays[dtype](bytes.buffer, 0, product(sizes)) };
  };
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, read(tensor)]));
}

/** A slow device gets no further kinds after this time. */
function limit(seconds) {
  const from = performance.now();
  return () => performance.now() - from > seconds * 1000;
}

const notTried = 'not tried, for the time | -';
const argmax = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);
const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const gibibytes = (bytes) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
const firstLine = (error) => String(error?.message ?? error).split('\n')[0];

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const task = JSON.parse(process.argv[2]);
  try {
    console.log(`cells: ${await parts[task.part](task)}`);
  } catch (error) {
    console.log(`cells: FAILED: ${firstLine(error)} | -`);
  }
}
