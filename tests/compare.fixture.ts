import { OrtBackend } from '@graft/cpu/api';
import {
  type Backend,
  type CompileOptions,
  captureModel,
  Dim,
  type HostTensor,
  type InputSpec,
  InterpreterBackend,
  Module,
  memoryStorage,
  Parameter,
  type Program,
  type StorageFormat,
  type SymbolicTensor,
  type WeightStorage,
} from '@graft/graph';
import { expect } from 'vitest';

export const symbol = (name: string): Dim => Dim.symbol(name);

/** Reproducible numbers in [-1, 1). */
export function randomFloats(count: number, seed = 1): Float32Array<ArrayBuffer> {
  let state = Math.imul(seed, 2654435761) >>> 0;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

export function float32(dims: readonly number[], seed = 1): HostTensor {
  return { dtype: 'float32', dims, data: randomFloats(count(dims), seed) };
}

export function int64(dims: readonly number[], values: readonly number[]): HostTensor {
  return { dtype: 'int64', dims, data: BigInt64Array.from(values, (value) => BigInt(value)) };
}

export function int32(dims: readonly number[], values: readonly number[]): HostTensor {
  return { dtype: 'int32', dims, data: Int32Array.from(values) };
}

export function count(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/** Random values kept in the given form; what is compared with is the same values in float32. */
export function randomStorage(format: StorageFormat, shape: readonly number[], seed = 1): WeightStorage {
  const values = randomFloats(count(shape), seed);
  const blocks = count(shape) / 32;
  const scales = randomFloats(blocks, seed + 1).map((value) => 0.001 * (1.5 + value));
  const bytes = (length: number, salt: number) =>
    Uint8Array.from(randomFloats(length, seed + salt), (value) => Math.floor((value + 1) * 128));
  switch (format) {
    case 'float32':
      return memoryStorage(format, shape, { data: values.map((value) => value * 0.2) });
    case 'bfloat16':
      return memoryStorage(format, shape, { data: Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16) });
    case 'float16':
      return memoryStorage(format, shape, { data: Uint16Array.from(values, (value) => 0x3000 + Math.floor((value + 1) * 512)) });
    case 'int8b32':
      return memoryStorage(format, shape, {
        quants: bytes(count(shape), 2),
        scales,
        zeroPoints: bytes(blocks, 3).map((value) => 96 + (value >> 2)),
      });
    case 'int4b32':
      return memoryStorage(format, shape, { quants: bytes(count(shape) / 2, 2), scales: scales.map((scale) => scale * 16) });
    case 'int4b32o':
      return memoryStorage(format, shape, {
        quants: bytes(count(shape) / 2, 2),
        scales: scales.map((scale) => scale * 16),
        zeroPoints: bytes(blocks, 3).map((value) => value >> 4),
        offsets: randomFloats(blocks, seed + 4).map((value) => 0.01 * value),
      });
    default:
      throw new Error(`No random values in ${format}.`);
  }
}

export function parameter(shape: readonly number[], format: StorageFormat = 'float32', seed = 1): Parameter {
  const made = new Parameter(shape);
  made.setStorage(randomStorage(format, shape, seed));
  return made;
}

/** A module whose forward is one function of its parameters, so that an op can be tested alone. */
export class Holder<P extends Record<string, unknown>> extends Module {
  constructor(fields: P) {
    super();
    Object.assign(this, fields);
  }
}
export function holder<P extends Record<string, unknown>>(fields: P): Holder<P> & P {
  return new Holder(fields) as Holder<P> & P;
}

type Inputs = Record<string, InputSpec>;

export function specOf(dtype: HostTensor['dtype'], ...dims: (string | number)[]): InputSpec {
  return { dtype, dims: dims.map((dim) => (typeof dim === 'string' ? Dim.symbol(dim) : Dim.of(dim))) };
}

const noSlots: CompileOptions = {
  kvSlots: 4,
  threads: 1,
  bindRuntimeInput: (path, kind) => {
    throw new Error(`no runtime input expected, got ${path} (${kind})`);
  },
};

/** One kernel an op. */
export const unfused: Backend = new OrtBackend({ fuse: false });

/** Programs of the interpreter and of ONNX Runtime for the same capture. */
export async function both<M extends Module, const I extends Inputs>(
  model: M,
  inputs: I,
  call: (model: M, inputs: { [K in keyof I]: SymbolicTensor }) => Record<string, unknown>,
  options: CompileOptions = noSlots,
  backend: Backend = new OrtBackend(),
): Promise<{ expected: Program; actual: Program } & Disposable> {
  const captured = captureModel(model, { inputs, call });
  const expected = await new InterpreterBackend().compile(captured, options);
  const actual = await backend.compile(captured, options);
  return {
    expected,
    actual,
    [Symbol.dispose]() {
      actual[Symbol.dispose]();
      expected[Symbol.dispose]();
    },
  };
}

/** Runs a step on both and compares all outputs. @param tolerance absolute, times the largest expected value (at least 1). */
export async function expectSame(
  programs: { expected: Program; actual: Program },
  inputs: Record<string, HostTensor>,
  { tolerance = 1e-4, firstSlot = 0, batch = 1 }: { tolerance?: number; firstSlot?: number; batch?: number } = {},
): Promise<void> {
  const step = { firstSlot, batch, inputs };
  const expected = await programs.expected.run(step);
  const actual = await programs.actual.run(step);
  expect(Object.keys(actual)).toEqual(Object.keys(expected));
  for (const [name, tensor] of Object.entries(expected)) {
    expect([name, actual[name]!.dtype, ...actual[name]!.dims]).toEqual([name, tensor.dtype, ...tensor.dims]);
    expect(difference(actual[name]!, tensor), name).toBeLessThan(tolerance);
  }
}

/** Largest difference, relative to the largest expected value where that is over 1. NaN counts as infinite. */
export function difference(actual: HostTensor, expected: HostTensor): number {
  let largest = 1;
  let worst = 0;
  for (let i = 0; i < expected.data.length; i++) {
    largest = Math.max(largest, Math.abs(Number(expected.data[i])));
    const gap = Math.abs(Number(actual.data[i]) - Number(expected.data[i]));
    worst = Math.max(worst, Number.isNaN(gap) ? Number.POSITIVE_INFINITY : gap);
  }
  return worst / largest;
}
