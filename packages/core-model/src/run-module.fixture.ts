import { captureModel, Dim, type HostTensor, InterpreterBackend, type Module, type Tensor } from '@graft/graph';

const dtypeOf = (data: HostTensor['data']) => (data instanceof BigInt64Array ? 'int64' : 'float32');

/** Captures a call of a module and runs it in the interpreter. Tensors by name, each with its dims; the sizes are static. */
export async function runModule<
  M extends Module,
  const Inputs extends Record<string, { dims: number[]; data: Float32Array | BigInt64Array }>,
>(
  module: M,
  inputs: Inputs,
  call: (module: M, inputs: { [K in keyof Inputs]: Tensor }) => Record<string, Tensor>,
): Promise<Record<string, { dims: readonly number[]; values: number[] }>> {
  const specs = Object.fromEntries(
    Object.entries(inputs).map(([name, { dims, data }]) => [name, { dtype: dtypeOf(data), dims: dims.map((dim) => Dim.of(dim)) } as const]),
  );
  const captured = captureModel(module, { inputs: specs, call: (proxy, tensors) => call(proxy, tensors as never) });
  using program = await new InterpreterBackend().compile(captured, {
    kvSlots: 1,
    bindRuntimeInput: (path) => {
      throw new Error(`There is a runtime input at ${path}.`);
    },
  });
  const given = Object.entries(inputs).map(([name, { dims, data }]): [string, HostTensor] => [name, { dtype: dtypeOf(data), dims, data }]);
  const outputs = await program.run({ firstSlot: 0, batch: 1, inputs: Object.fromEntries(given) });
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { dims, data }]) => [name, { dims, values: Array.from(data as Float32Array) }]),
  );
}

export function expectClose(actual: readonly number[], expected: readonly number[], tolerance = 1e-6): void {
  const far = expected.findIndex((value, i) => !(Math.abs(actual[i]! - value) <= tolerance));
  if (actual.length !== expected.length || far >= 0) {
    throw new Error(`Expected [${expected.join(', ')}], found [${actual.join(', ')}] (first difference at ${far}).`);
  }
}
