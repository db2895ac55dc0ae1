// All that a change must pass, or the checks that are named: `npm test`, `npm test -- biome unit`, `npm run e2e`.
// Every check runs even when one before it failed. The last line is `N passed, N failed`: tests are counted one by one, any other check as one.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = (path) => join(root, 'node_modules', path);
const scratch = mkdtempSync(join(tmpdir(), 'graft-test-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

/** Name -> the check. `inTest` is what plain `npm test` runs, in this order: the build comes first because tests start its worker. */
const checks = {
  build: { inTest: true, run: () => command(bin('typescript/bin/tsc'), ['-b']) },
  types: { inTest: true, run: () => command(join(root, 'scripts/types.mjs'), []) },
  biome: { inTest: true, run: () => command(bin('@biomejs/biome/bin/biome'), ['check', '.']) },
  knip: { inTest: true, run: () => command(bin('knip/bin/knip.js'), ['--no-progress', '--no-config-hints']) },
  unit: { inTest: true, run: () => vitest('unit') },
  native: { inTest: true, run: () => vitest('native') },
  e2e: { inTest: false, run: () => vitest('e2e') },
  docs: { inTest: false, run: () => command(join(root, 'site/build.mjs'), []) },
  packages: { inTest: false, run: () => vitest('packages') },
};

/** Runs a Node program; its output is kept unless `live`. */
function node(script, args, live = false) {
  return new Promise((resolve) => {
    const env = { ...process.env, NO_UPDATE_NOTIFIER: '1' };
    const child = spawn(process.execPath, [script, ...args], { cwd: root, env, stdio: live ? 'inherit' : ['ignore', 'pipe', 'pipe'] });
    const chunks = [];
    child.stdout?.on('data', (chunk) => chunks.push(chunk));
    child.stderr?.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => resolve({ code: 1, output: error.message }));
    child.on('close', (code) => resolve({ code: code ?? 1, output: Buffer.concat(chunks).toString('utf8') }));
  });
}

async function command(script, args) {
  const { code, output } = await node(script, args);
  if (code !== 0) process.stdout.write(`${output.trimEnd()}\n`);
  return code === 0 ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 };
}

async function vitest(project) {
  const report = join(scratch, `${project}.json`);
  const args = ['run', '--project', project, '--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const { code } = await node(bin('vitest/vitest.mjs'), args, true);
  return countTests(report, code);
}

/** Counts tests; a file that fails without a failed test in it (it does not load) and a failure outside any test count as one each. */
function countTests(report, code) {
  let results;
  try {
    results = JSON.parse(readFileSync(report, 'utf8')).testResults;
  } catch {
    console.log('vitest left no report.');
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of results) {
    const states = file.assertionResults.map(({ status }) => status);
    counts.passed += states.filter((status) => status === 'passed').length;
    counts.skipped += states.filter((status) => status !== 'passed' && status !== 'failed').length;
    const failed = states.filter((status) => status === 'failed').length;
    counts.failed += failed === 0 && file.status === 'failed' ? 1 : failed;
    if (failed === 0 && file.status === 'failed')
      console.log(`${relative(root, file.name)} failed outside its tests: ${file.message ?? ''}`);
  }
  if (code !== 0 && counts.failed === 0) counts.failed = 1; // an unhandled error, or no test found
  return counts;
}

const names = process.argv.slice(2);
const unknown = names.filter((name) => !(name in checks));
if (unknown.length > 0) {
  console.error(`There is no check "${unknown.join('", "')}". Checks: ${Object.keys(checks).join(', ')}.`);
  process.exit(2);
}
const chosen = Object.entries(checks).filter(([name, { inTest }]) => (names.length > 0 ? names.includes(name) : inTest));

const rows = [];
for (const [name, check] of chosen) {
  console.log(`\n== ${name}`);
  const startMs = performance.now();
  const counts = await check.run();
  const seconds = (performance.now() - startMs) / 1000;
  rows.push({ name, ...counts, seconds });
  console.log(`${counts.failed === 0 ? 'ok' : 'FAILED'} (${seconds.toFixed(1)} s)`);
}

const total = (key) => rows.reduce((sum, row) => sum + row[key], 0);
console.log('\n== summary');
for (const { name, passed, failed, skipped, seconds } of rows) {
  const notes = skipped === 0 ? '' : `, ${skipped} skipped`;
  console.log(
    `${failed === 0 ? 'ok    ' : 'FAILED'} ${name.padEnd(8)} ${passed} passed, ${failed} failed${notes} (${seconds.toFixed(1)} s)`,
  );
}
process.exitCode = total('failed') === 0 ? 0 : 1;
console.log(`${total('passed')} passed, ${total('failed')} failed`);
