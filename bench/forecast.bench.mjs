// What the forecast of a model's graphs takes: 48 layers at 144 prompt and 90 decode buckets, each time in a new process on the built files, and the same
// captures for real. No weight is there and nothing is compiled. The goal for the forecast is under 1 s.
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

/** What one process does: a forecast, another one, and the captures themselves. */
function program(model) {
  return `const { CaptureCache, predict } = await import(${built('graph')});
const { captureLanguageModel } = await import(${built('engine')});
const { HpuLlama4ForCausalLM } = await import(${built('llama4-hpu', 'models/llama4.js')});
const { contextOf, runHooks } = await import(${built('llama4-hpu', 'layer-graphs.fixture.js')});
const context = contextOf('${model}');
const model = new HpuLlama4ForCausalLM(context);
await runHooks(model, context);
const buckets = [
  ...Array.from({ length: 144 }, (_, i) => ({ batch: 1, sequence: 128 * (i + 2) })),
  ...Array.from({ length: 90 }, (_, i) => ({ batch: i + 1, sequence: 1 })),
];
const named = buckets.map((bucket) => [bucket.batch + ' x ' + bucket.sequence, bucket]);
const forecast = () => predict(named, (bucket, cache) => captureLanguageModel(model, cache, bucket)).graphs;
const captures = () => {
  const cache = new CaptureCache();
  for (const bucket of buckets) captureLanguageModel(model, cache, bucket);
  return cache.count();
};
const samples = {};
for (const [what, run] of Object.entries({ 'first forecast': forecast, 'second forecast': forecast, 'captures themselves': captures })) {
  const [started, cpu] = [performance.now(), process.cpuUsage()];
  const graphs = run();
  samples[what] = { graphs, wall: performance.now() - started, user: process.cpuUsage(cpu).user / 1000 };
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
