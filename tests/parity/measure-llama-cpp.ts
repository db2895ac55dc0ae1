/**
 * Measures by how much llama.cpp itself changes the log-probabilities on GGUF cases, and notes it in llama-cpp.json: with its flash attention or without, whichever
 * changes them more.
 *   npm install --prefix INSTALLED node-llama-cpp@3.22.1
 *   node --conditions=@graft/source --import ./scripts/tsx.mjs tests/parity/measure-llama-cpp.ts INSTALLED CASE...
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ggufHash, llamaCppFile, readLlamaCpp } from './llama-cpp.ts';
import { type ReferenceCase, readReferenceCase } from './reference-case.ts';
import { choicesText, compareChoices } from './run-case.ts';

const [installed, ...folders] = process.argv.slice(2);
if (installed === undefined || folders.length === 0) throw new Error('Give the folder where node-llama-cpp is installed, then cases.');
const { getLlama } = await import(pathToFileURL(join(installed, 'node_modules/node-llama-cpp/dist/index.js')).href);
const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, logLevel: 'error' });

const measured = readLlamaCpp();
for (const folder of folders) {
  const reference = await readReferenceCase(folder);
  const model = await llama.loadModel({ modelPath: reference.model });
  const runs = [];
  for (const flashAttention of [true, false]) {
    const rows: Float32Array[][] = [];
    for (const [row, ids] of reference.inputIds.entries())
      rows.push(await evaluate(model, [...ids, ...reference.decodeIds[row]!], reference, flashAttention));
    runs.push(compareChoices(reference, rows));
  }
  await model.dispose();
  const choices = runs.reduce((most, run) => (run.meanChange > most.meanChange ? run : most));
  console.log(`${reference.name}: ${choicesText(choices)}`);
  measured[ggufHash(folder)] = { case: reference.name, meanChange: Number(choices.meanChange.toFixed(4)) };
}
writeFileSync(llamaCppFile, `${JSON.stringify(measured, null, 2)}\n`);
process.exit(0); // the library leaves handles open

/** Log-probabilities after each token. */
async function evaluate(
  model: typeof llama,
  ids: readonly number[],
  { vocabSize }: ReferenceCase,
  flashAttention: boolean,
): Promise<Float32Array[]> {
  const context = await model.createContext({ contextSize: Math.max(128, ids.length + 8), threads: 1, flashAttention });
  const results = await context.getSequence().controlledEvaluate(ids.map((id) => [id, { generateNext: { probabilities: true } }]));
  await context.dispose();
  return results.map((result: { next: { probabilities: Map<number, number> } }) => {
    const row = new Float32Array(vocabSize).fill(-20); // for tokens that it leaves out
    for (const [id, probability] of result.next.probabilities) row[id] = Math.log(probability);
    return row;
  });
}
