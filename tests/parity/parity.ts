/**
 * Compares Graft with what the published Llama 4 implementation computes.
 *   npm run parity -- DIR...                    folders of reference cases
 *   npm run parity -- --smollm2 FILE... [--nope | --rope] [--model GGUF]
 * A line a case and backend; exit code 1 when one is over the tolerance.
 */
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ensureDefaultModel } from '@graft/server';
import { cpu, cpuQuantised, hpu, hpuBuckets, interpreter } from './backends.ts';
import { compareTexts } from './compare-texts.ts';
import { readReferenceCase } from './reference-case.ts';
import { type CaseReport, runCase } from './run-case.ts';
import { runSmolLm2 } from './run-smollm2.ts';

const app = fileURLToPath(new URL('../../', import.meta.url));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { smollm2: { type: 'boolean' }, nope: { type: 'boolean' }, rope: { type: 'boolean' }, model: { type: 'string' } },
});
if (positionals.length === 0) {
  console.error('usage: npm run parity -- DIR...  |  npm run parity -- --smollm2 FILE... [--nope | --rope] [--model GGUF]');
  process.exit(2);
}

let [passed, failed] = [0, 0];
for (const path of positionals) {
  for await (const { passed: ok, line } of values.smollm2 === true ? smolLm2(path) : cases(path)) {
    console.log(line);
    if (ok) passed++;
    else failed++;
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

async function* cases(folder: string): AsyncGenerator<CaseReport> {
  try {
    const reference = await readReferenceCase(folder);
    if (reference.texts.length > 0) yield await guarded(`${reference.name} texts`, () => compareTexts(reference));
    for (const backend of [interpreter, cpu, ...(reference.isQuantised ? [cpuQuantised] : []), hpu, hpuBuckets])
      yield await guarded(`${reference.name} ${backend.label ?? backend.name}`, () => runCase(reference, backend, app));
  } catch (error) {
    yield failure(folder, error);
  }
}

async function* smolLm2(file: string): AsyncGenerator<CaseReport> {
  try {
    const model = values.model ?? (await ensureDefaultModel({ environment: process.env }));
    for (const backend of [cpu, hpu])
      yield* await runSmolLm2({
        file,
        model,
        backend,
        app,
        ...(values.nope === true && { nope: true }),
        ...(values.rope === true && { nope: false }),
      });
  } catch (error) {
    yield failure(file, error);
  }
}

async function guarded(name: string, run: () => Promise<CaseReport>): Promise<CaseReport> {
  try {
    return await run();
  } catch (error) {
    return failure(name, error);
  }
}

function failure(name: string, error: unknown): CaseReport {
  return { passed: false, line: `FAIL ${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}` };
}
