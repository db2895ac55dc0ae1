// ONNX Runtime in WebAssembly: against the reference cases, through `LlmEngine` and over HTTP, and the plugin in the testing kit.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { coreModels, type LanguageModel, llama4, type ModelContext, upstreamContext } from '@graft/core-model';
import { LlmEngine, verify } from '@graft/engine';
import { type CapturedModel, captureModel, Dim, type InputSpec, Module, ops, type Tensor } from '@graft/graph';
import { checkPlugin } from '@graft/registry/testing';
import { afterAll, expect, onTestFinished, test } from 'vitest';
import { startServer } from '../../tests/e2e/server-process.ts';
import { withOtherWeights } from '../../tests/fixtures/other-weights.ts';
import { type ReferenceCase, readReferenceCase } from '../../tests/parity/reference-case.ts';
import { runCase } from '../../tests/parity/run-case.ts';
import plugin from './src/plugin.ts';
import { WasmBackend } from './src/wasm-backend.ts';

const here = fileURLToPath(new URL('.', import.meta.url));
const caseFolder = (name: string): string => join(here, '../../tests/parity/cases', name);
const cases = ['dense-tiny', 'heads10-tiny', 'llama3rope-tiny', 'maverick-tiny', 'nochunk-tiny', 'scout-tiny', 'top2-tiny', 'vision-tiny'];
const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-wasm-'));
afterAll(() => rmSync(cacheDirectory, { recursive: true }));

test.each(cases)("%s: the reference's logits within 1e-3 and its greedy ids, rows of a batch together", async (name) => {
  const report = await runCase(await readReferenceCase(caseFolder(name)), { name: 'wasm', plugins: ['./src/plugin.ts'] }, here);
  expect(report.line).toContain('greedy ids equal');
  expect(report).toMatchObject({ passed: true });
});

test("graft serve --app answers with the reference's ids over HTTP, on the platform that has a device", async () => {
  const reference = await readReferenceCase(caseFolder('scout-tiny'));
  const steps = reference.decodeIds[0]!.length;
  const flags = ['--max-model-length', String(reference.promptLength + steps), '--weights', 'float32'];
  const server = await startServer('--app', here, '--model', reference.folder, ...flags);
  onTestFinished(async () => void (await server.stop()));
  expect((await server.health()).engine).toMatchObject({ platform: 'wasm', modelClass: 'WasmLlama4ForCausalLM' });
  for (const [row, prompt] of reference.inputIds.entries()) {
    const response = await fetch(`${server.url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt, max_tokens: steps, temperature: 0, ignore_eos: true, logprobs: 1 }),
    });
    const { choices } = (await response.json()) as { choices: { logprobs: { token_logprobs: number[] } }[] };
    const expected = referenceLogprobs(reference, row); // of the reference's ids: after another id, no later one would agree
    const actual = choices[0]!.logprobs.token_logprobs;
    expect(actual).toHaveLength(steps);
    for (const [step, logprob] of actual.entries()) expect(logprob, `row ${row}, step ${step}`).toBeCloseTo(expected[step]!, 3);
  }
  expect(await server.stop()).toBe(0);
});

test('what a longer sequence left in a slot does not change the next one there', async () => {
  const prompt = [5, 9, 17, 40];
  const used = await start(caseFolder('nochunk-tiny'));
  await generate(used, [5, 9, 17, 33, 65, 129, 3, 8, 12, 90]);
  const fresh = await start(caseFolder('nochunk-tiny'));
  expect(await generate(used, prompt)).toEqual(await generate(fresh, prompt));
  await used.close();
  await fresh.close();
});

test('graft verify finds the override equal to upstream on this backend', async () => {
  const { record } = await verify({
    model: caseFolder('scout-tiny'),
    app: here,
    plugins: ['./src/plugin.ts'],
    platform: 'wasm',
    cacheDirectory,
  });
  expect(record).toMatchObject({
    verdict: 'equal',
    upstream: { modelClass: 'Llama4ForCausalLM' },
    override: { modelClass: 'WasmLlama4ForCausalLM' },
  });
});

test('the testing kit finds every property of the override to hold', async () => {
  const model = caseFolder('scout-tiny');
  const otherModel = withOtherWeights(model);
  onTestFinished(() => rmSync(otherModel, { recursive: true }));
  const config = llama4.parseConfig(JSON.parse(readFileSync(join(model, 'config.json'), 'utf8')));
  const { records } = await checkPlugin<ModelContext, LanguageModel, LlmEngine>(plugin, {
    needs: [coreModels],
    context: ({ architecture, platform, mode }) => upstreamContext(architecture, config, { platform, mode: mode!, maxModelLength: 32 }),
    reload: () => ({
      checkpoints: [model, otherModel],
      load: start,
      reload: (engine, checkpoint) => engine.reloadWeights(checkpoint),
      outputs: (engine) => generate(engine, [3, 141, 59]),
      close: (engine) => engine.close(),
    }),
  });
  expect(records.map(({ property, outcome }) => `${property}: ${outcome}`)).toEqual([
    'contract holds: held',
    'phases repeat: held',
    'init keeps the parameters: held',
    'undo restores: held',
    'copies share nothing: held',
    'reload equals a fresh load: held',
  ]);
});

test('a graph that ONNX Runtime refuses ends in an error with its reason', async () => {
  const bool = { dtype: 'bool', dims: [Dim.of(2)] } as const;
  const captured = capture({ x: bool }, ({ x }) => ops.where({ condition: x!, a: x!, b: x! }));
  await expect(new WasmBackend().compile(captured, { kvSlots: 1, bindRuntimeInput })).rejects.toMatchObject({
    code: 'GRAFT_WASM_COMPILE',
    message: expect.stringContaining('Where'),
  });
});

test('a program may be disposed during a run, which ends, and twice; it then runs no more', async () => {
  const captured = capture({ x: { dtype: 'float32', dims: [Dim.symbol('n')] } }, ({ x }) => ops.addScalar({ x: x! }, { value: 1 }));
  const program = await new WasmBackend().compile(captured, { kvSlots: 1, bindRuntimeInput });
  const step = { firstSlot: 0, batch: 1, inputs: { x: { dtype: 'float32', dims: [2], data: Float32Array.of(1, 2) } } } as const;
  const running = program.run(step);
  program[Symbol.dispose]();
  program[Symbol.dispose]();
  expect((await running)['y']).toEqual({ dtype: 'float32', dims: [2], data: Float32Array.of(2, 3) });
  await expect(program.run(step)).rejects.toMatchObject({ code: 'GRAFT_DISPOSED' });
});

function start(checkpoint: string): Promise<LlmEngine> {
  return LlmEngine.start({
    model: checkpoint,
    app: here,
    plugins: ['./src/plugin.ts'],
    platform: 'wasm',
    maxModelLength: 32,
    cacheDirectory,
  });
}

/** Greedy ids, and the logits of each. */
async function generate(engine: LlmEngine, tokenIds: number[]): Promise<number[]> {
  const results: number[] = [];
  const observer = { onLogits: (_position: number, logits: Float32Array) => void results.push(...logits) };
  const request = { prompt: { tokenIds }, sampling: { temperature: 0, ignoreEos: true, maxTokens: 6 } };
  for await (const delta of engine.generate(request, { observer })) results.push(...delta.tokenIds);
  return results;
}

function capture<Name extends string>(inputs: Record<Name, InputSpec>, call: (given: Record<Name, Tensor>) => Tensor): CapturedModel {
  return captureModel(new (class Nothing extends Module {})(), { inputs, call: (_model, given) => ({ y: call(given) }) });
}

function bindRuntimeInput(path: string): never {
  throw new Error(`no runtime input expected, got ${path}`);
}

function referenceLogprobs({ decodeIds, decodeLogits, vocabSize }: ReferenceCase, row: number): number[] {
  return decodeIds[row]!.map((id, step) => {
    const logits = decodeLogits[row]!.subarray(step * vocabSize, (step + 1) * vocabSize);
    const sum = logits.reduce((total, logit) => total + Math.exp(logit), 0);
    return logits[id]! - Math.log(sum);
  });
}
