import { DisposedError } from '@graft/common';
import { beforeEach, expect, test } from 'vitest';
import type { HostTensor, ProgramStep, StaticProgram } from '../backend.ts';
import { type CapturedModel, captureModel } from '../capture/capture.ts';
import { ParameterWithoutStorageError, ProgramInputError } from '../errors.ts';
import { InterpreterBackend } from '../interpreter.ts';
import { Module } from '../nn/module.ts';
import { Parameter } from '../nn/parameter.ts';
import { RuntimeInput } from '../nn/runtime-input.ts';
import { memoryStorage } from '../nn/storage.ts';
import { ops } from '../ops/index.ts';
import { Dim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';

/** Adds a weight to its input, and attends to all that came before: what it gives depends on the weight and on the cache. */
class Remembering extends Module {
  readonly weight = new Parameter([2]);
  readonly keyCache = new RuntimeInput('cache', 'float32', ['batch', 1, 'rows', 2]);
  readonly valueCache = new RuntimeInput('cache', 'float32', ['batch', 1, 'rows', 2]);
  readonly queryStart = new RuntimeInput('queryStart', 'int32', ['batch']);
  readonly sequenceLengths = new RuntimeInput('sequenceLengths', 'int32', ['batch']);
  readonly totalLength = new RuntimeInput('totalLength', 'int32', []);

  forward(x: Tensor): Tensor {
    const y = ops.add({ a: x, b: this.weight });
    const { keyCache, valueCache, queryStart, sequenceLengths, totalLength } = this;
    return ops.attention(
      { query: y, key: y, value: y, keyCache, valueCache, queryStart, sequenceLengths, totalLength },
      { numHeads: 1, numKvHeads: 1, headDim: 2, scale: 1 },
    );
  }
}

const storageOf = (...values: number[]) => memoryStorage('float32', [2], { data: Float32Array.from(values) });
const int32 = (dims: number[], ...data: number[]): HostTensor => ({ dtype: 'int32', dims, data: Int32Array.from(data) });

let model: Remembering;
let program: StaticProgram;

beforeEach(async () => {
  model = new Remembering();
  model.weight.setStorage(storageOf(1, 2));
  program = await new InterpreterBackend().open(model, {
    kvSlots: 2,
    bindRuntimeInput: (_, kind) => (kind === 'cache' ? { kind: 'cache', rows: 8 } : { kind: 'input', name: kind }),
    recipeDirectory: null,
  });
});

function captureAt(sequence: number): CapturedModel {
  const dims = [Dim.of(1), Dim.of(sequence), Dim.of(2)];
  return captureModel(model, {
    batch: dims[0]!,
    inputs: { x: { dtype: 'float32', dims } },
    call: (proxy, { x }) => ({ y: proxy.forward(x) }),
  });
}

function stepAt(start: number, ...rows: number[][]): ProgramStep {
  const x: HostTensor = { dtype: 'float32', dims: [1, rows.length, 2], data: Float32Array.from(rows.flat()) };
  const end = start + rows.length;
  return {
    firstSlot: 1,
    batch: 1,
    inputs: { x, queryStart: int32([1], start), sequenceLengths: int32([1], end), totalLength: int32([], end) },
  };
}

const run = async (bucket: string, step: ProgramStep): Promise<number[]> =>
  Array.from((await program.run(bucket, step))['y']!.data, Number);

test('buckets share caches: one attends to the rows that another writes', async () => {
  await program.add('three', () => captureAt(3));
  await program.add('two', () => captureAt(2));
  await program.add('one', () => captureAt(1));
  const whole = await run('three', stepAt(0, [0, 1], [2, 0], [1, 1]));
  await run('two', stepAt(0, [0, 1], [2, 0]));
  expect(await run('one', stepAt(2, [1, 1]))).toEqual(whole.slice(4));
  expect(program.facts).toMatchObject({ graphs: 3, recipes: 0, weightBytes: 8, cacheBytes: 2 * 2 * 8 * 2 * 4 });
});

test('the weights are those of `open` until they are updated, in every bucket', async () => {
  await program.add('one', () => captureAt(1));
  const old = await run('one', stepAt(0, [1, 1]));
  model.weight.setStorage(storageOf(5, 6));
  await program.add('two', () => captureAt(2));
  expect([await run('one', stepAt(0, [1, 1])), (await run('two', stepAt(0, [1, 1], [0, 0]))).slice(0, 2)]).toEqual([old, old]);
  program.updateWeights();
  expect([await run('one', stepAt(0, [1, 1])), (await run('two', stepAt(0, [1, 1], [0, 0]))).slice(0, 2)]).toEqual([
    [6, 7],
    [6, 7],
  ]);
});

test('an unknown bucket, missing weights and a disposed program are errors', async () => {
  await program.add('one', () => captureAt(1));
  await expect(program.run('two', stepAt(0, [1, 1], [1, 1]))).rejects.toThrow(ProgramInputError);
  const empty = new InterpreterBackend().open(new Remembering(), {
    kvSlots: 1,
    bindRuntimeInput: () => ({ kind: 'input', name: 'x' }),
    recipeDirectory: null,
  });
  await expect(empty).rejects.toThrow(ParameterWithoutStorageError);
  program[Symbol.dispose]();
  program[Symbol.dispose]();
  await expect(program.run('one', stepAt(0, [1, 1]))).rejects.toThrow(DisposedError);
});
