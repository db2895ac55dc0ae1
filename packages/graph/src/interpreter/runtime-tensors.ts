import type { CompileOptions, HostTensor, ProgramStep, RuntimeBinding } from '../backend.ts';
import type { CapturedModel } from '../capture/capture.ts';
import { ProgramInputError, RuntimeBindingError } from '../errors.ts';
import type { Graph, GraphRuntimeInput } from '../graph.ts';
import { joinPath } from '../nn/module.ts';
import { type Dims, formatDims, localise } from '../shape.ts';
import { elementCount, zeros } from './host-tensor.ts';
import type { Sizes } from './sizes.ts';

/** A runtime input of the whole model. */
interface Bound {
  readonly path: string;
  readonly value: { readonly dtype: GraphRuntimeInput['value']['dtype']; readonly dims: Dims };
  readonly binding: RuntimeBinding;
  /** `[slots, ...]`, for a cache. */
  readonly cache: HostTensor | null;
}

/** What the model's runtime inputs are bound to: the caches, which live here, and the values of each step. */
export class RuntimeTensors {
  private readonly kvSlots: number;
  private inputs: readonly Bound[];

  /** @param caches by path: those that another graph of the same model has already are shared with it. */
  constructor(
    { graph }: CapturedModel,
    { bindRuntimeInput, kvSlots }: Pick<CompileOptions, 'bindRuntimeInput' | 'kvSlots'>,
    caches = new Map<string, HostTensor>(),
  ) {
    this.kvSlots = kvSlots;
    this.inputs = allRuntimeInputs(graph).map(({ path, kind, value }) => {
      const binding = bindRuntimeInput(path, kind);
      return {
        path,
        value,
        binding,
        cache: binding.kind === 'cache' ? cacheOf(caches, path, value, cacheDims(path, value.dims, binding, kvSlots)) : null,
      };
    });
  }

  get cacheBytes(): number {
    return this.inputs.reduce((sum, { cache }) => sum + (cache === null ? 0 : cache.data.byteLength), 0);
  }

  /** The tensor of each runtime input in this step, by path; a cache's shares the cache's memory. @throws ProgramInputError */
  bind(step: ProgramStep, sizes: Sizes): ReadonlyMap<string, HostTensor> {
    this.checkSlots(step);
    const tensors = new Map<string, HostTensor>();
    for (const { path, value, binding, cache } of this.inputs) {
      const tensor = cache === null ? inputOf(step, (binding as { name: string }).name) : region(cache, step);
      const from = binding.kind === 'input' ? `input "${binding.name}", for runtime input ${path}` : `step.batch, for cache ${path}`;
      sizes.bindTensor(tensor, value, from);
      tensors.set(path, tensor);
    }
    return tensors;
  }

  [Symbol.dispose](): void {
    this.inputs = [];
  }

  private checkSlots({ firstSlot, batch }: ProgramStep): void {
    if (!Number.isSafeInteger(firstSlot) || !Number.isSafeInteger(batch) || firstSlot < 0 || batch < 1 || firstSlot + batch > this.kvSlots)
      throw new ProgramInputError(
        `Slots ${firstSlot} to ${firstSlot + batch - 1} are asked for; there are ${this.kvSlots}.`,
        'step.firstSlot, step.batch',
      );
  }
}

/** @throws ProgramInputError when the step does not bring it. */
export function inputOf(step: ProgramStep, name: string): HostTensor {
  const tensor = step.inputs[name];
  if (tensor === undefined)
    throw new ProgramInputError(`It is missing; the step brings ${Object.keys(step.inputs).join(', ') || 'none'}.`, `input "${name}"`);
  return tensor;
}

/** Runtime inputs of the graph and of every region that it calls, each once. */
function allRuntimeInputs(graph: Graph): GraphRuntimeInput[] {
  const found = new Map<string, GraphRuntimeInput>();
  const add = (runtimeInputs: readonly GraphRuntimeInput[], prefix: string): void => {
    for (const { path, kind, value } of runtimeInputs) {
      const full = joinPath(prefix, path);
      found.set(full, { path: full, kind, value: { ...value, dims: localise(value.dims, prefix) } });
    }
  };
  add(graph.runtimeInputs, '');
  for (const node of graph.nodes) if (node.kind === 'region') add(node.region.graph.runtimeInputs, node.path);
  return [...found.values()];
}

function cacheOf(caches: Map<string, HostTensor>, path: string, { dtype }: Bound['value'], dims: readonly number[]): HostTensor {
  const known = caches.get(path);
  if (known !== undefined) return known;
  const cache = zeros(dtype, dims);
  caches.set(path, cache);
  return cache;
}

function cacheDims(path: string, dims: Dims, { rows }: { rows: number }, kvSlots: number): number[] {
  const local = dims.slice(1).map((dim) => {
    if (dim.isStatic) return dim.value;
    if (dim.symbolName?.startsWith('@') === true) return rows;
    throw new RuntimeBindingError(`A cache of shape ${formatDims(dims)} depends on "${dim.toString()}", which only a step knows.`, path);
  });
  if (dims.length === 0 || !Number.isSafeInteger(rows) || rows < 1)
    throw new RuntimeBindingError(`${rows} rows cannot serve a runtime input of shape ${formatDims(dims)}.`, path);
  return [kvSlots, ...local];
}

/** The part of a cache that this step's slots have. */
function region(cache: HostTensor, { firstSlot, batch }: ProgramStep): HostTensor {
  const dims = cache.dims.slice(1);
  const size = elementCount(dims);
  return { dtype: cache.dtype, dims: [batch, ...dims], data: cache.data.subarray(firstSlot * size, (firstSlot + batch) * size) };
}
