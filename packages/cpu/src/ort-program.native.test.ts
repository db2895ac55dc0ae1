import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { DisposedError } from '@graft/common';
import { Llama4ForCausalLM, llama4, upstreamContext } from '@graft/core-model';
import { captureLanguageModel } from '@graft/engine';
import {
  CaptureCache,
  type CompileOptions,
  type HostTensor,
  InterpreterBackend,
  inlineRegions,
  Module,
  memoryStorage,
  ops,
  Parameter,
  type Program,
  ProgramBusyError,
  type StorageFormat,
  type StoragePart,
  type SymbolicTensor,
  type WeightStorage,
} from '@graft/graph';
import { exportGraph, WeightStore } from '@graft/onnx-export';
import { decodeModel } from '@graft/onnxruntime';
import { expect, test } from 'vitest';
import { both, expectSame, float32, holder, int32, int64, parameter, randomStorage, specOf } from '../../../tests/compare.fixture.ts';
import { OrtBackend } from './ort-backend.ts';

const rows = 40;
const options: CompileOptions = {
  kvSlots: 3,
  threads: 1,
  bindRuntimeInput: (_path, kind) => (kind.startsWith('kvCache') ? { kind: 'cache', rows } : { kind: 'input', name: kind }),
};

/** Every kind of layer there is: MoE and dense, RoPE with q/k norm and NoPE with temperature tuning. */
function tinyModel(format: StorageFormat, more: Record<string, unknown> = {}): Llama4ForCausalLM {
  const config = llama4.parseConfig({
    vocab_size: 96,
    hidden_size: 32,
    intermediate_size: 32,
    intermediate_size_mlp: 64,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    max_position_embeddings: rows,
    num_local_experts: 4,
    interleave_moe_layer_step: 2,
    floor_scale: 8,
    bos_token_id: 1,
    eos_token_id: 2,
    ...more,
  });
  const model = new Llama4ForCausalLM(upstreamContext('Llama4ForCausalLM', config));
  let seed = 1;
  for (const [name, weight] of model.namedParameters()) {
    const quantised = weight.shape.length > 1 && !name.endsWith('router.weight');
    weight.setStorage(randomStorage(quantised ? format : 'float32', weight.shape, ++seed));
  }
  return model;
}

function tokens(computed: number, count: number, batch = 1): Record<string, HostTensor> {
  const each = (make: (i: number) => number): number[] => Array.from({ length: batch * count }, (_, i) => make(i));
  return {
    inputIds: int64(
      [batch, count],
      each((i) => (i * 31 + computed * 7 + 5) % 96),
    ),
    positions: int64(
      [batch, count],
      each((i) => computed + (i % count)),
    ),
    logitsIndices: int64(
      [batch],
      Array.from({ length: batch }, (_, b) => b * count + count - 1),
    ),
    queryStart: int32([batch], new Array<number>(batch).fill(computed)),
    sequenceLengths: int32([batch], new Array<number>(batch).fill(computed + count)),
    totalLength: int32([], [computed + count]),
  };
}

const captureTiny = (model: Llama4ForCausalLM) => captureLanguageModel(model, new CaptureCache());

test.each([
  ['float32', {}, 1e-4],
  ['float32', { num_experts_per_tok: 2, tie_word_embeddings: true }, 1e-4],
  // Activations rounded to 8 bits in every layer, and a router whose choice may tip: only the size of the error is of interest.
  ['int8b32', { interleave_moe_layer_step: 0, tie_word_embeddings: true }, 0.1],
  ['int4b32', { interleave_moe_layer_step: 0 }, 0.1],
  ['int4b32o', { interleave_moe_layer_step: 0, tie_word_embeddings: true }, 0.1],
] as const)(
  'a whole model in %s (%o) computes what the interpreter computes, in pieces and in a batch',
  async (format, more, tolerance) => {
    const captured = captureTiny(tinyModel(format, more));
    using expected = await new InterpreterBackend().compile(captured, options);
    using actual = await new OrtBackend().compile(captured, options);
    const programs = { expected, actual };
    for (const firstSlot of [1, 2]) {
      await expectSame(programs, tokens(0, 7), { firstSlot, tolerance });
      await expectSame(programs, tokens(7, 5), { firstSlot, tolerance });
    }
    for (let i = 0; i < 3; i++) await expectSame(programs, tokens(12 + i, 1, 2), { firstSlot: 1, batch: 2, tolerance });
  },
);

test.each(['int4b32', 'int4b32o'] as const)(
  'with weights in %s a prompt is computed exactly, and a decode step continues from its cache',
  async (format) => {
    const captured = captureTiny(tinyModel(format, { moe_layers: [] }));
    using expected = await new InterpreterBackend().compile(captured, options);
    using actual = await new OrtBackend().compile(captured, options);
    await expectSame({ expected, actual }, tokens(0, 7), { tolerance: 1e-4 });
    await expectSame({ expected, actual }, tokens(7, 5), { tolerance: 1e-4 });
    await expectSame({ expected, actual }, tokens(12, 1), { tolerance: 0.1 });
    expect(actual.facts.graphs).toBe(2);
  },
);

test('one ONNX graph serves all layers, and attentions take over the split and the rotation where nothing is between', () => {
  const opsOf = (more: Record<string, unknown>): string[] => {
    using weights = new WeightStore();
    const { model } = exportGraph(inlineRegions(captureTiny(tinyModel('float32', { moe_layers: [], ...more }))), weights, options);
    return decodeModel(model).graph!.node.map(({ opType }) => opType);
  };
  const count = (list: readonly string[], op: string): number => list.filter((each) => each === op).length;
  const fused = opsOf({ use_qk_norm: false, attn_temperature_tuning: false });
  expect(count(fused, 'GroupQueryAttention')).toBe(4);
  expect(count(fused, 'RotaryEmbedding')).toBe(0);
  expect(count(fused, 'Split')).toBe(4); // of gate and up alone
  const normed = opsOf({});
  expect(count(normed, 'RotaryEmbedding')).toBe(6); // query and key of three RoPE layers, normed before they attend
  expect(count(normed, 'Split')).toBe(8);
});

test('weights in a file are mapped and give the same as weights in memory', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'graft-cpu-'));
  try {
    const path = join(folder, 'weights');
    const inMemory = randomStorage('int8b32', [64, 32], 3);
    const mapped = parameterOver(intoFile(path, inMemory));
    const plain = parameterOver(inMemory);
    const model = holder({ mapped, plain });
    using programs = await both(model, { x: specOf('float32', 'n', 32) }, (m, { x }) => {
      const [a, b] = [m.mapped, m.plain] as const;
      return { fromFile: ops.linear({ x, weight: a }), fromMemory: ops.linear({ x, weight: b }) };
    });
    const { fromFile, fromMemory } = await programs.actual.run({ firstSlot: 0, batch: 1, inputs: { x: float32([3, 32]) } });
    expect(fromFile!.data).toEqual(fromMemory!.data);
    expect(programs.actual.facts.weightBytes).toBe(2 * (64 * 32 + 64 * 5));
  } finally {
    rmSync(folder, { recursive: true });
  }
});

function parameterOver(storage: WeightStorage): Parameter {
  const made = new Parameter([64, 32]);
  made.setStorage(storage);
  return made;
}

/** The same storage with its parts one behind the other in a file, after some bytes that are not theirs. */
function intoFile(path: string, storage: WeightStorage): WeightStorage {
  let offset = 64;
  const chunks: Uint8Array[] = [new Uint8Array(offset)];
  const parts: Record<string, StoragePart> = {};
  for (const [name, part] of Object.entries(storage.parts)) {
    chunks.push(part.read());
    parts[name] = { ...part, location: { path, offset } };
    offset += part.read().byteLength;
  }
  writeFileSync(path, Buffer.concat(chunks));
  return { format: storage.format, parts };
}

test('a weight without values is named', async () => {
  const model = holder({ empty: new Parameter([4, 4]) });
  const compiled = both(model, { x: specOf('float32', 'n', 4) }, (m, { x }) => ({
    y: ops.linear({ x, weight: m.empty }),
  }));
  await expect(compiled).rejects.toThrow(/has no values yet.\s+where: empty/);
});

test('an input, a weight or one value twice may be an output', async () => {
  const model = holder({ row: parameter([4]) });
  using programs = await both(model, { x: specOf('float32', 'n', 4) }, (m, { x }) => {
    const sum = ops.add({ a: x, b: x });
    return { x, row: m.row, sum, again: sum };
  });
  await expectSame(programs, { x: float32([3, 4]) });
});

test('results keep their memory and are valid until the next run', async () => {
  using program = await new OrtBackend().compile(captureTiny(tinyModel('float32')), options);
  const first = (await program.run({ firstSlot: 0, batch: 1, inputs: tokens(0, 3) }))['logits']!;
  const copy = Float32Array.from(first.data as Float32Array);
  expect(copy.some((value) => value !== 0)).toBe(true);
  const second = (await program.run({ firstSlot: 1, batch: 1, inputs: tokens(0, 3) }))['logits']!;
  expect(second.data).toEqual(copy); // the same tokens in another slot
  expect(second.data.buffer).toBe(first.data.buffer);
});

/** Many products, so that there is time to do something meanwhile. */
class Slow extends Module {
  readonly weight = parameter([256, 256], 'float32', 7);

  forward(x: SymbolicTensor): SymbolicTensor {
    let y = x;
    for (let i = 0; i < 200; i++) y = ops.sigmoid({ x: ops.linear({ x: y, weight: this.weight }) });
    return y;
  }
}

async function slowProgram(): Promise<Disposable & { actual: Program; expected: Program }> {
  return both(new Slow(), { x: specOf('float32', 'n', 256) }, (model, { x }) => ({ y: model.forward(x) }));
}
const slowStep = { firstSlot: 0, batch: 1, inputs: { x: float32([1000, 256]) } };

test('an aborted run ends with the reason of its signal, and the program runs again', async () => {
  using programs = await slowProgram();
  const controller = new AbortController();
  const reason = new Error('the client went away');
  const run = programs.actual.run({ ...slowStep, signal: controller.signal });
  controller.abort(reason);
  await expect(run).rejects.toBe(reason);
  await expect(programs.actual.run({ ...slowStep, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  await expectSame(programs, { x: float32([1, 256], 2) });
});

test('the event loop goes on during a run, and a second run is refused', async () => {
  using programs = await slowProgram();
  let running = true;
  const run = programs.actual.run(slowStep).finally(() => (running = false));
  await expect(programs.actual.run(slowStep)).rejects.toThrow(ProgramBusyError);
  for (let turns = 0; turns < 5; turns++) await turn();
  expect(running).toBe(true);
  await run;
});

test('a program may be disposed twice and during a run; the run rejects, and so does every later one', async () => {
  const programs = await slowProgram();
  const run = programs.actual.run(slowStep);
  const rejected = expect(run).rejects.toThrow(DisposedError);
  programs.actual[Symbol.dispose]();
  programs.actual[Symbol.dispose]();
  await rejected;
  await expect(programs.actual.run(slowStep)).rejects.toThrow(DisposedError);
});

test('an aborted compile rejects with the reason of its signal', async () => {
  const reason = new Error('no longer wanted');
  const captured = captureTiny(tinyModel('float32'));
  await expect(new OrtBackend().compile(captured, { ...options, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});

test('facts count each weight and cache once', async () => {
  const weight = new Parameter([8, 8]);
  weight.setStorage(memoryStorage('float32', [8, 8], { data: new Float32Array(64) }));
  const model = holder({ a: weight, b: weight });
  using programs = await both(model, { x: specOf('float32', 'n', 8) }, (m, { x }) => {
    const [a, b] = [m.a, m.b] as const;
    return { y: ops.linear({ x: ops.linear({ x, weight: a }), weight: b }) };
  });
  expect(programs.actual.facts).toEqual({ graphs: 1, weightBytes: 256, cacheBytes: 0 });
});
