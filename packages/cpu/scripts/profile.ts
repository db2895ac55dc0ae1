// Times a decode step and a prefill of a model on this machine, and shows where ONNX Runtime spends them. From the repository's root:
//   node --conditions=@graft/source --import ./scripts/tsx.mjs packages/cpu/scripts/profile.ts MODEL [--float32] [--dense REGEXP] [--threads N] [--spin US] [--no-fuse] [--profile]
import { mkdtempSync, readFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import {
  faithfulPolicy,
  float32Policy,
  Llama4ForCausalLM,
  llama4,
  loadWeights,
  openCheckpoint,
  upstreamContext,
  type WeightPolicy,
} from '@graft/core-model';
import { captureLanguageModel } from '@graft/engine';
import { CaptureCache, type HostTensor } from '@graft/graph';
import { OrtBackend, type OrtProgram } from '../src/index.ts';

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    float32: { type: 'boolean' },
    /** Parameters whose name matches are kept in float32. */
    dense: { type: 'string' },
    threads: { type: 'string', default: '2' },
    spin: { type: 'string', default: '100' },
    'no-fuse': { type: 'boolean' },
    profile: { type: 'boolean' },
    context: { type: 'string', default: '16,512' },
    steps: { type: 'string', default: '40' },
    cache: { type: 'string' },
  },
});
const out = (line: string): void => void process.stdout.write(`${line}\n`);
const rows = 1024;

const checkpoint = await openCheckpoint(positionals[0]!);
const config = llama4.parseConfig(checkpoint.config);
const model = new Llama4ForCausalLM(upstreamContext('Llama4ForCausalLM', config, { maxModelLength: rows }));
let start = performance.now();
const dense = options.dense === undefined ? null : new RegExp(options.dense);
const policy: WeightPolicy = (parameter) =>
  options.float32 === true || dense?.test(parameter.name) === true ? float32Policy(parameter) : faithfulPolicy(parameter);
const cacheDirectory = options.cache ?? join(tmpdir(), 'graft-profile-weights');
const report = await loadWeights(model, checkpoint, { policy, cacheDirectory, rules: llama4.weights(config) });
out(`weights: ${(report.bytes / 1e6).toFixed(0)} MB, ${report.fromCache ? 'from cache' : 'converted'} in ${report.seconds.toFixed(1)} s`);
const captured = captureLanguageModel(model, new CaptureCache());

const compile = (profilePath?: string) =>
  new OrtBackend({
    threads: Number(options.threads),
    spinDurationUs: Number(options.spin),
    fuse: options['no-fuse'] !== true,
    ...(profilePath !== undefined && { profilePath }),
  }).compile(captured, {
    kvSlots: 2,
    bindRuntimeInput: (_path, kind) => (kind.startsWith('kvCache.') ? { kind: 'cache', rows } : { kind: 'input', name: kind }),
  }) as Promise<OrtProgram>;

function inputsOf(computed: number, ids: readonly number[], batch = 1): Record<string, HostTensor> {
  const n = ids.length;
  const each = <T>(make: (i: number) => T): T[] => Array.from({ length: batch * n }, (_, i) => make(i % n));
  const int64 = (dims: number[], data: readonly number[]): HostTensor => ({ dtype: 'int64', dims, data: BigInt64Array.from(data, BigInt) });
  const perRow = (value: number): HostTensor => ({ dtype: 'int32', dims: [batch], data: new Int32Array(batch).fill(value) });
  return {
    inputIds: int64(
      [batch, n],
      each((i) => ids[i]!),
    ),
    positions: int64(
      [batch, n],
      each((i) => computed + i),
    ),
    logitsIndices: int64(
      [batch],
      Array.from({ length: batch }, (_, b) => b * n + n - 1),
    ),
    queryStart: perRow(computed),
    sequenceLengths: perRow(computed + n),
    totalLength: { dtype: 'int32', dims: [], data: Int32Array.of(computed + n) },
  };
}

const tokens = (count: number): number[] => Array.from({ length: count }, (_, i) => (i * 7919 + 11) % config.vocabSize);

/** Median and minimum of milliseconds. */
async function time(
  program: OrtProgram,
  count: number,
  step: (i: number) => Parameters<OrtProgram['run']>[0],
): Promise<[median: number, min: number]> {
  const times: number[] = [];
  for (let i = 0; i < count + 2; i++) {
    const given = step(i);
    const begin = performance.now();
    await program.run(given);
    if (i >= 2) times.push(performance.now() - begin);
  }
  times.sort((a, b) => a - b);
  return [times[times.length >> 1]!, times[0]!];
}

start = performance.now();
const program = await compile();
out(
  `compiled in ${((performance.now() - start) / 1000).toFixed(2)} s; ${cpus()[0]?.model}, ${options.threads} threads, spin ${options.spin} us`,
);
out(
  `memory: ${(process.memoryUsage().rss / 1e6).toFixed(0)} MB; weights ${(program.facts.weightBytes / 1e6).toFixed(0)} MB, caches ${(program.facts.cacheBytes / 1e6).toFixed(0)} MB`,
);
const steps = Number(options.steps);
for (const count of [64, 256, 512]) {
  const [median, min] = await time(program, 3, () => ({ firstSlot: 0, batch: 1, inputs: inputsOf(0, tokens(count)) }));
  out(
    `prefill ${count}: ${median.toFixed(0)}/${min.toFixed(0)} ms (${((1000 * count) / median).toFixed(0)}/${((1000 * count) / min).toFixed(0)} tokens/s)`,
  );
}
for (const length of options.context.split(',').map(Number)) {
  for (const batch of [1, 2]) {
    for (let slot = 0; slot < batch; slot++) await program.run({ firstSlot: slot, batch: 1, inputs: inputsOf(0, tokens(length)) });
    const [median, min] = await time(program, steps, (i) => ({ firstSlot: 0, batch, inputs: inputsOf(length + i, [17], batch) }));
    out(
      `decode at ${length}, batch ${batch}: ${median.toFixed(2)}/${min.toFixed(2)} ms (${((1000 * batch) / median).toFixed(0)}/${((1000 * batch) / min).toFixed(0)} tokens/s)`,
    );
  }
}
program[Symbol.dispose]();

if (options.profile === true) {
  await profile('decode', 16, 20, (i) => inputsOf(16 + i, [17]));
  await profile('prefill 256', 0, 3, () => inputsOf(0, tokens(256)));
}

async function profile(what: string, prefix: number, count: number, step: (i: number) => Record<string, HostTensor>): Promise<void> {
  const profiled = await compile(join(mkdtempSync(join(tmpdir(), 'graft-profile-')), 'run'));
  if (prefix > 0) await profiled.run({ firstSlot: 0, batch: 1, inputs: inputsOf(0, tokens(prefix)) });
  for (let i = 0; i < count; i++) await profiled.run({ firstSlot: 0, batch: 1, inputs: step(i) });
  const events = JSON.parse(readFileSync((prefix > 0 ? profiled.decode : profiled.prefill).session.endProfiling(), 'utf8')) as {
    name: string;
    cat: string;
    dur: number;
    args?: Record<string, string>;
  }[];
  profiled[Symbol.dispose]();
  const kernels = events.filter(({ cat, name }) => cat === 'Node' && name.endsWith('_kernel_time'));
  const sharesSession = profiled.decode === profiled.prefill;
  const perRun = Math.floor(kernels.length / (count + (prefix > 0 && sharesSession ? 1 : 0)));
  const table = new Map<string, { ms: number; nodes: number }>();
  for (const { dur, args } of kernels.slice(-perRun * count)) {
    const row = table.get(args?.['op_name'] ?? '') ?? { ms: 0, nodes: 0 };
    table.set(args?.['op_name'] ?? '', { ms: row.ms + dur / 1000 / count, nodes: row.nodes + 1 / count });
  }
  const total = [...table.values()].reduce((sum, { ms }) => sum + ms, 0);
  out(`\n${what}: ${total.toFixed(2)} ms a step in kernels\n| op | nodes | ms | % |\n|---|---|---|---|`);
  for (const [op, { ms, nodes }] of [...table].sort(([, a], [, b]) => b.ms - a.ms))
    out(`| ${op} | ${Math.round(nodes)} | ${ms.toFixed(3)} | ${((100 * ms) / total).toFixed(1)} |`);
}
