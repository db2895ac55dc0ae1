import type { CompileOptions, HostTensor, ProgramStep, RuntimeBinding } from '../backend.ts';
import { ProgramInputError, RuntimeBindingError } from '../errors.ts';
import type { Graph, GraphRuntimeInput, Value } from '../graph.ts';
import { formatDims } from '../shape.ts';
import { elementCount, zeros } from './host-tensor.ts';
import type { Sizes } from './sizes.ts';

interface Bound extends GraphRuntimeInput {
  readonly binding: RuntimeBinding;
  /** `[kvSlots, ...]`; null for a value of each step. */
  readonly cache: HostTensor | null;
}

/** The tensors bound to a graph's runtime inputs: caches, and values of each step. */
export class RuntimeTensors {
  private readonly kvSlots: number;
  private readonly inputs: readonly Bound[];

  /** @param caches by path, shared by all graphs of a model; adds the missing ones. @throws RuntimeBindingError */
  constructor({ runtimeInputs }: Graph, { bindRuntimeInput, kvSlots }: CompileOptions, caches: Map<string, HostTensor>) {
    this.kvSlots = kvSlots;
    this.inputs = runtimeInputs.map((input) => {
      const { path, kind, value } = input;
      const binding = bindRuntimeInput(path, kind);
      if (binding.kind === 'input') return { ...input, binding, cache: null };
      const cache = caches.get(path) ?? zeros(value.dtype, [kvSlots, ...rowDims(path, value, binding.rows)]);
      caches.set(path, cache);
      return { ...input, binding, cache };
    });
  }

  /** Adds the tensor of each runtime input in this step. A cache's tensor shares its memory. @throws ProgramInputError */
  bind(step: ProgramStep, sizes: Sizes, values: Map<Value, HostTensor>): void {
    const { firstSlot, batch } = step;
    if (!Number.isSafeInteger(firstSlot) || !Number.isSafeInteger(batch) || firstSlot < 0 || batch < 1 || firstSlot + batch > this.kvSlots)
      throw new ProgramInputError(
        `Slots ${firstSlot} to ${firstSlot + batch - 1} do not exist; the program has ${this.kvSlots}.`,
        'step.firstSlot, step.batch',
      );
    for (const { path, value, binding, cache } of this.inputs) {
      const tensor = cache === null ? inputOf(step, (binding as { name: string }).name) : slotsOf(cache, step);
      const from = binding.kind === 'input' ? `input "${binding.name}", for runtime input ${path}` : `step.batch, for cache ${path}`;
      sizes.bindTensor(tensor, value, from);
      values.set(value, tensor);
    }
  }
}

/** @throws ProgramInputError when the step lacks it. */
export function inputOf(step: ProgramStep, name: string): HostTensor {
  const tensor = step.inputs[name];
  if (tensor === undefined)
    throw new ProgramInputError(`It is missing; the step brings ${Object.keys(step.inputs).join(', ') || 'none'}.`, `input "${name}"`);
  return tensor;
}

/** The dimensions of a cache after the first, which is the slot. */
function rowDims(path: string, { dims }: Value, rows: number): number[] {
  if (dims.length === 0 || !Number.isSafeInteger(rows) || rows < 1)
    throw new RuntimeBindingError(`${rows} rows cannot serve a runtime input of shape ${formatDims(dims)}.`, path);
  return dims.slice(1).map((dim) => {
    if (dim.isStatic) return dim.value;
    if (dim.symbolName?.startsWith('@') === true) return rows;
    throw new RuntimeBindingError(`A cache of shape ${formatDims(dims)} depends on "${dim.toString()}", which only a step knows.`, path);
  });
}

/** The part of a cache that belongs to the slots of a step. */
export function slotsOf(cache: HostTensor, { firstSlot, batch }: Pick<ProgramStep, 'firstSlot' | 'batch'>): HostTensor {
  const dims = cache.dims.slice(1);
  const size = elementCount(dims);
  return { dtype: cache.dtype, dims: [batch, ...dims], data: cache.data.subarray(firstSlot * size, (firstSlot + batch) * size) };
}
