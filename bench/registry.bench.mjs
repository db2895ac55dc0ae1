// Registering, listing and resolving many lazy entries, each time in a new process on the built files, and how many model modules that imported.
// The goal for 400 entries is under 20 ms for listing and resolving them all.
//   npm run bench -- registry [--entries 400] [--processes 20]
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const goalMs = 20;
const registry = pathToFileURL(join(dirname(dirname(fileURLToPath(import.meta.url))), 'packages', 'registry', 'dist', 'index.js'));

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: { entries: { type: 'string', default: '400' }, processes: { type: 'string', default: '20' } },
  });
  const entries = Number(values.entries);
  const folder = mkdtempSync(join(tmpdir(), 'graft-bench-registry-'));
  try {
    writeFileSync(join(folder, 'model.mjs'), 'globalThis.imported = (globalThis.imported ?? 0) + 1;\nexport class Model {}\n');
    writeFileSync(join(folder, 'main.mjs'), program(entries));
    const measure = () => JSON.parse(execFileSync(process.execPath, [join(folder, 'main.mjs')], { encoding: 'utf8' }));
    measure(); // the files are then in the page cache
    return report(entries, Array.from({ length: Number(values.processes) }, measure));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** What one process does: as many upstream models, and an override of each. */
function program(entries) {
  return `const { definePlugin, loadPlugins } = await import(${JSON.stringify(registry.href)});
const names = Array.from({ length: ${entries} }, (_, index) => 'Architecture' + index);
const model = (name) => () => import('./model.mjs?' + name).then((m) => m.Model);
const started = performance.now();
const plugin = definePlugin({
  name: 'many',
  models: names.map((architecture) => ({ architecture, model: model(architecture) })),
  overrides: names.map((architecture) => ({ of: architecture, platform: 'hpu', factory: async () => (Base) => class extends Base {} })),
});
const { registry } = await loadPlugins({ graftVersion: '0.1.0', specifiers: [], plugins: [plugin] });
const registered = performance.now();
const listed = registry.list().length;
const chains = names.map((name) => registry.resolve([name], { platform: 'hpu', mode: 'compile' }).chain.length);
const resolved = performance.now();
if (listed !== names.length || chains.some((length) => length !== 2)) throw new Error('the registry did not resolve every entry');
console.log(JSON.stringify({ register: registered - started, resolve: resolved - registered, imported: globalThis.imported ?? 0 }));
`;
}

function report(entries, samples) {
  const row = (name, key) => {
    const sorted = samples.map((sample) => sample[key]).sort((a, b) => a - b);
    const [median, least, most] = [sorted[sorted.length >> 1], sorted[0], sorted.at(-1)];
    return `| ${name} | ${median.toFixed(1)} (${least.toFixed(1)}-${most.toFixed(1)}) |`;
  };
  const imported = samples.reduce((sum, sample) => sum + sample.imported, 0);
  return [
    `${entries} upstream models with an override each; ${samples.length} new processes; goal for listing and resolving 400: under ${goalMs} ms`,
    '',
    '| step | ms, median (least-most) |',
    '|---|---|',
    row('register, checked and whole', 'register'),
    row('list and resolve all', 'resolve'),
    '',
    `model modules imported: ${imported}`,
  ];
}
