/**
 * Compares Graft with what the published implementations compute; docs/parity.md describes the files.
 *   npm run parity -- DIR... [--backend NAME,...]   cases, folders with an expected.json, and folders of both; default: all backends
 *   npm run parity -- --smollm2 FILE... [--nope | --rope] [--model GGUF]
 * Prints a line for each case and backend. The exit code is 1 when one fails.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { ensureDefaultModel } from '@graft/server';
import { cpu, cpuQuantised, ggml, ggmlQuantised, hpu, hpuBuckets, interpreter, vulkan, vulkanQuantised } from './backends.ts';
import { compareTexts } from './compare-texts.ts';
import { readReferenceCase } from './reference-case.ts';
import { type BackendChoice, type CaseReport, runCase } from './run-case.ts';
import { readField, runField } from './run-field.ts';
import { runSmolLm2 } from './run-smollm2.ts';

const app = fileURLToPath(new URL('../../', import.meta.url));

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    backend: { type: 'string' },
    smollm2: { type: 'boolean' },
    nope: { type: 'boolean' },
    rope: { type: 'boolean' },
    model: { type: 'string' },
  },
});
if (positionals.length === 0) {
  console.error('usage: npm run parity -- DIR...  |  npm run parity -- --smollm2 FILE... [--nope | --rope] [--model GGUF]');
  process.exit(2);
}

let [passed, failed] = [0, 0];
for (const path of positionals) {
  for await (const { passed: ok, line } of values.smollm2 === true ? smolLm2(path) : folder(path)) {
    console.log(line);
    if (ok) passed++;
    else failed++;
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

/** The backends that `--backend` names; without it, those that run on every machine. */
function asked(backends: readonly BackendChoice[]): readonly BackendChoice[] {
  const names = values.backend?.split(',');
  return names === undefined ? backends.filter(({ name }) => name !== 'vulkan') : backends.filter(({ name }) => names.includes(name));
}

/** The reports of all cases in a folder, at any depth. */
async function* folder(path: string): AsyncGenerator<CaseReport> {
  const folders = caseFolders(path);
  if (folders.length === 0) yield failure(path, 'Neither this folder nor one in it has a config.json or an expected.json.');
  for (const { path: found, isField } of folders) yield* isField ? field(found) : cases(found);
}

function caseFolders(path: string): { path: string; isField: boolean }[] {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return [];
  const entries = readdirSync(path, { withFileTypes: true });
  const has = (name: string): boolean => entries.some((entry) => entry.name === name);
  if (has('expected.json')) return [{ path, isField: true }];
  if (has('config.json')) return [{ path, isField: false }];
  return entries.filter((entry) => entry.isDirectory()).flatMap(({ name }) => caseFolders(join(path, name)));
}

async function* cases(folder: string): AsyncGenerator<CaseReport> {
  try {
    if (!existsSync(join(folder, 'expected.safetensors'))) throw new Error('The folder has no expected.safetensors.');
    const reference = await readReferenceCase(folder);
    if (reference.texts.length > 0) yield await guarded(`${reference.name} texts`, () => compareTexts(reference));
    for (const backend of asked([
      interpreter,
      cpu,
      ggml,
      ...(reference.isQuantised ? [cpuQuantised, ggmlQuantised, vulkanQuantised] : []),
      hpu,
      hpuBuckets,
      vulkan,
    ]))
      yield await guarded(`${reference.name} ${backend.label ?? backend.name}`, () => runCase(reference, backend, app));
  } catch (error) {
    yield failure(folder, error);
  }
}

async function* field(folder: string): AsyncGenerator<CaseReport> {
  try {
    for (const file of readField(folder))
      for (const backend of asked([interpreter, cpu, ggml, hpu, hpuBuckets, vulkan]))
        yield await guarded(`${file.name} ${backend.label ?? backend.name}`, () => runField(file, backend, app));
  } catch (error) {
    yield failure(folder, error);
  }
}

async function* smolLm2(file: string): AsyncGenerator<CaseReport> {
  try {
    const model = values.model ?? (await ensureDefaultModel({ environment: process.env }));
    // In Q4_1 on AVX2, ggml (as llama.cpp) has 94.2 % of the first choices, and the bar is 95 %: by name only.
    for (const backend of values.backend === undefined ? [cpu, hpu] : asked([cpu, ggml, hpu]))
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
