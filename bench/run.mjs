// `npm run bench -- NAME [options]` runs bench/NAME.bench.mjs and prints its report with the machine.
// `--write` also appends the report to bench/RESULTS.md.
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, readdirSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const results = join(folder, 'RESULTS.md');
const names = readdirSync(folder).flatMap((file) => (file.endsWith('.bench.mjs') ? [file.slice(0, -'.bench.mjs'.length)] : []));

function git(...args) {
  try {
    return execFileSync('git', args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return '';
  }
}

/** What a figure is worth without: when, which commit, which machine, and how busy it was before the run. */
function machineFacts(loadBefore) {
  const commit = git('rev-parse', '--short', 'HEAD') || 'unknown';
  const changed = git('status', '--porcelain', '--', '../packages') === '' ? '' : ' with uncommitted changes';
  const memory = `${Math.round(totalmem() / 2 ** 30)} GiB`;
  return [
    `${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC, commit ${commit}${changed}`,
    `${cpus()[0]?.model.trim() ?? 'unknown CPU'}, ${cpus().length} cores, ${memory}; Node ${process.versions.node}, ${process.platform} ${process.arch}; load before ${loadBefore.toFixed(1)}`,
  ];
}

const [name, ...args] = process.argv.slice(2);
if (name === undefined || !names.includes(name)) {
  console.error(`usage: npm run bench -- NAME [options] [--write]\nbenches: ${names.join(', ')}`);
  process.exit(2);
}
const loadBefore = loadavg()[0];
try {
  const { main } = await import(`./${name}.bench.mjs`);
  const lines = await main(args.filter((arg) => arg !== '--write'));
  const report = [...machineFacts(loadBefore), `command: npm run bench -- ${[name, ...args].join(' ')}`, '', ...lines].join('\n');
  console.log(`\n${report}`);
  if (args.includes('--write')) {
    if (!existsSync(results))
      appendFileSync(results, '# Results\n\nAppend-only. Figures of different machines, or of a busy one, are not compared.\n');
    appendFileSync(results, `\n## ${name}\n\n${report}\n`);
    console.log(`\nappended to ${results}`);
  }
} catch (error) {
  console.error(`bench ${name}: ${error.message}`);
  process.exitCode = 1;
}
