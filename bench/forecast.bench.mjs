// What the forecast of a model's graphs takes: 48 layers at 144 prompt and 90 decode buckets, each time in a new process on the built files, and what the
// captures take of which it is a forecast: those of a warm-up, every graph made, and those of `forward` run at each bucket. No weight is there and nothing
// is compiled. The goal for the forecast is under 1 s.
//   npm run bench -- forecast [--processes 5]
import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const goalMs = 1000;
const packages = join(dirname(dirname(fileURLToPath(import.meta.url))), 'packages');
const built = (name, file = 'index.js') => JSON.stringify(pathToFileURL(join(packages, name, 'dist', file)).href);

export async function main(args) {
  const { values } = parseArgs({ args, options: { processes: { type: 'string', default: '5' } } });
  const rows = [];
  for (const model of ['Maverick', 'Scout']) {
    const measure = () =>
      JSON.parse(execFileSync(process.execPath, ['--input-type=module', '--eval', program(model)], { cwd: packages, encoding: 'utf8' }));
    measure(); // the files are then in the page cache
    rows.push(...report(model, Array.from({ length: Number(values.processes) }, measure)));
  }
  return [
    `48 layers at 234 buckets through HpuLlama4ForCausalLM; ${values.processes} new processes each; goal for the first forecast: under ${goalMs} ms`,
    '',
    '| model | what | graphs | ms, least (median) | ms of user CPU, least (median) |',
    '|---|---|---|---|---|',
    ...rows,
  ];
}

/** The published sizes of both models, as far as they matter here; see packages/llama4-hpu/src/layer-graphs.fixture.ts. */
const config = {
  architectures: ['Llama4ForCausalLM'],
  vocab_size: 202048,
  hidden_size: 5120,
  intermediate_size: 8192,
  intermediate_size_mlp: 16384,
  num_hidden_layers: 48,
  num_attention_heads: 40,
  num_key_value_heads: 8,
  head_dim: 128,
  attention_chunk_size: 8192,
};
const configs = {
  Maverick: { ...config, interleave_moe_layer_step: 2, num_local_experts: 128, use_qk_norm: false, max_position_embeddings: 1048576 },
  Scout: { ...config, interleave_moe_layer_step: 1, num_local_experts: 16, use_qk_norm: true, max_position_embeddings: 10485760 },
};

/** What one process does: a forecast, another one, and captures. */
function program(model) {
  return `const { CaptureCache, predict } = await import(${built('graph')});
const { captureLanguageModel } = await import(${built('engine')});
const { coreModels, llama4, upstreamContext } = await import(${built('core-model')});
const { loadPlugins } = await import(${built('registry')});
const { default: plugin } = await import(${built('llama4-hpu', 'plugin.js')});
const config = llama4.parseConfig(${JSON.stringify(configs[model])});
const mode = { platform: 'hpu', mode: 'compile' };
const context = upstreamContext('Llama4ForCausalLM', config, { ...mode, maxModelLength: 64 });
const plugins = await loadPlugins({ plugins: [coreModels, plugin], specifiers: [], graftVersion: '0.1.0' });
const classes = await plugins.registry.load(plugins.registry.resolve(['Llama4ForCausalLM'], mode));
const model = await classes.construct({ ...context, build: classes.build });
const runner = await plugins.createHookRunner(classes.resolution);
await runner.run('init', model, context);
runner.lifecycle.advance('loaded');
await runner.run('postLoad', model, context);
const buckets = [
  ...Array.from({ length: 144 }, (_, i) => ({ batch: 1, sequence: 128 * (i + 2) })),
  ...Array.from({ length: 90 }, (_, i) => ({ batch: i + 1, sequence: 1 })),
];
const named = buckets.map((bucket) => [bucket.batch + ' x ' + bucket.sequence, bucket]);
const forecast = () => predict(named, (bucket, cache) => captureLanguageModel(model, cache, bucket)).graphs;
const captures = (isFrozen) => () => {
  const cache = new CaptureCache({ isFrozen });
  for (const bucket of buckets) captureLanguageModel(model, cache, bucket);
  return cache.list('decoder-layer').filter(({ region }) => region.graph.nodes.length > 0).length;
};
const samples = {};
const what = { 'first forecast': forecast, 'second forecast': forecast, 'captures of a warm-up': captures(true), 'captures of each bucket': captures(false) };
for (const [name, run] of Object.entries(what)) {
  const [started, cpu] = [performance.now(), process.cpuUsage()];
  const graphs = run();
  samples[name] = { graphs, wall: performance.now() - started, user: process.cpuUsage(cpu).user / 1000 };
}
console.log(JSON.stringify(samples));
`;
}

function report(model, samples) {
  return Object.keys(samples[0]).map((what) => {
    const cell = (key) => {
      const sorted = samples.map((sample) => sample[what][key]).sort((a, b) => a - b);
      return `${sorted[0].toFixed(0)} (${sorted[sorted.length >> 1].toFixed(0)})`;
    };
    return `| ${model} | ${what} | ${samples[0][what].graphs} | ${cell('wall')} | ${cell('user')} |`;
  });
}
