import { DisposedError } from '@graft/common';
import { Llama4ForCausalLM, llama4, upstreamContext } from '@graft/core-model';
import { captureLanguageModel } from '@graft/engine';
import { CaptureCache, type HostTensor, InterpreterBackend, ProgramBusyError, ProgramInputError, type StaticOptions } from '@graft/graph';
import { expect, test } from 'vitest';
import { difference, int32, int64, randomStorage } from '../../../tests/compare.fixture.ts';
import { GgmlStaticBackend } from './index.ts';

const rows = 600; // the caches are read in 256, 512 or all rows
const options: StaticOptions = {
  kvSlots: 3,
  threads: 1,
  recipeDirectory: null,
  bindRuntimeInput: (_path, kind) => (kind.startsWith('kvCache') ? { kind: 'cache', rows } : { kind: 'input', name: kind }),
};

function tinyModel(seed = 1): Llama4ForCausalLM {
  const config = llama4.parseConfig({
    vocab_size: 96,
    hidden_size: 32,
    intermediate_size: 32,
    intermediate_size_mlp: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    max_position_embeddings: rows,
    num_local_experts: 4,
    interleave_moe_layer_step: 2,
    bos_token_id: 1,
    eos_token_id: 2,
  });
  const model = new Llama4ForCausalLM(upstreamContext('Llama4ForCausalLM', config));
  fill(model, seed);
  return model;
}

function fill(model: Llama4ForCausalLM, seed: number): void {
  let next = seed;
  for (const [, weight] of model.namedParameters()) weight.setStorage(randomStorage('float32', weight.shape, ++next));
}

/** Sequence b has `computed[b]` tokens in the cache and gets `count` more. */
function step(firstSlot: number, computed: readonly number[], count: number) {
  const batch = computed.length;
  const each = (make: (start: number, i: number) => number): number[] =>
    computed.flatMap((start) => Array.from({ length: count }, (_, i) => make(start, i)));
  const inputs: Record<string, HostTensor> = {
    inputIds: int64(
      [batch, count],
      each((start, i) => (i * 31 + start * 7 + 5) % 96),
    ),
    positions: int64(
      [batch, count],
      each((start, i) => start + i),
    ),
    logitsIndices: int64(
      [batch],
      computed.map((_, b) => b * count + count - 1),
    ),
    queryStart: int32([batch], computed),
    sequenceLengths: int32(
      [batch],
      computed.map((start) => start + count),
    ),
    totalLength: int32([], [Math.max(...computed) + count]),
  };
  return { firstSlot, batch, inputs };
}

async function opened(model = tinyModel()) {
  const backend = new GgmlStaticBackend({ cacheType: 'F32' });
  const [actual, expected] = [await backend.open(model, options), await new InterpreterBackend().open(model, options)];
  const add = async (batch: number, sequence: number) => {
    for (const program of [actual, expected])
      await program.add(`${batch}x${sequence}`, () => captureLanguageModel(model, new CaptureCache(), { batch, sequence }));
  };
  const gap = async (firstSlot: number, computed: readonly number[], count: number): Promise<number> => {
    const [key, one] = [`${computed.length}x${count}`, step(firstSlot, computed, count)];
    const wanted = (await expected.run(key, one))['logits']!;
    return difference((await actual.run(key, one))['logits']!, wanted);
  };
  const close = (): void => {
    for (const program of [actual, expected]) program[Symbol.dispose]();
  };
  return { actual, add, gap, [Symbol.dispose]: close };
}

test('buckets share the caches, at any slot and any length, and no graph is built after the last bucket has run once', async () => {
  using program = await opened();
  for (const [batch, count] of [
    [1, 1],
    [2, 1],
    [1, 64],
  ] as const)
    await program.add(batch, count);
  expect(await program.gap(0, [0], 64)).toBeLessThan(1e-4);
  expect(await program.gap(2, [0], 1)).toBeLessThan(1e-4);
  expect(await program.gap(1, [0, 0], 1)).toBeLessThan(1e-4);
  const { graphs } = program.actual.facts;
  for (let start = 0; start < 320; start += 64) expect(await program.gap(1, [start], 64)).toBeLessThan(1e-4);
  expect(await program.gap(1, [320], 1)).toBeLessThan(1e-4);
  expect(await program.gap(0, [64, 321], 1)).toBeLessThan(1e-4);
  expect(await program.gap(0, [65], 1)).toBeLessThan(1e-4);
  for (let start = 384; start < 536; start += 64) expect(await program.gap(1, [start], 64)).toBeLessThan(1e-4);
  expect(program.actual.facts.graphs).toBe(graphs);
});

test('new weights take the place of the old ones, and the caches stay', async () => {
  const model = tinyModel();
  using program = await opened(model);
  await program.add(1, 1);
  expect(await program.gap(0, [0], 1)).toBeLessThan(1e-4);
  const before = (await program.actual.run('1x1', step(1, [0], 1)))['logits']!;
  const old = { ...before, data: before.data.slice() };
  fill(model, 50);
  program.actual.updateWeights();
  const after = (await program.actual.run('1x1', step(1, [0], 1)))['logits']!;
  expect(difference(after, old)).toBeGreaterThan(1e-2);
  fill(model, 1);
  program.actual.updateWeights();
  expect(difference((await program.actual.run('1x1', step(1, [0], 1)))['logits']!, old)).toBeLessThan(1e-6);
  expect(await program.gap(0, [1], 1)).toBeLessThan(1e-4);
});

test('an unknown bucket, a second step at once and a disposed program are refused', async () => {
  using program = await opened();
  await program.add(1, 1);
  const { actual } = program;
  await expect(actual.run('4x1', step(0, [0, 0, 0, 0], 1))).rejects.toThrow(ProgramInputError);
  const first = actual.run('1x1', step(0, [0], 1));
  await expect(actual.run('1x1', step(0, [0], 1))).rejects.toThrow(ProgramBusyError);
  expect(() => actual.updateWeights()).toThrow(ProgramBusyError);
  await first;
  const running = actual.run('1x1', step(0, [1], 1));
  actual[Symbol.dispose]();
  await expect(running).rejects.toThrow(DisposedError);
  await expect(actual.run('1x1', step(0, [0], 1))).rejects.toThrow(DisposedError);
});

test('an aborted step rejects, and the next one runs', async () => {
  using program = await opened();
  await program.add(1, 64);
  const controller = new AbortController();
  const aborted = program.actual.run('1x64', { ...step(0, [0], 64), signal: controller.signal });
  controller.abort(new Error('the client went away'));
  await expect(aborted).rejects.toThrow('the client went away');
  expect(await program.gap(0, [0], 64)).toBeLessThan(1e-4);
});
