import type { CompileOptions, HostTensor, ProgramStep, SlotBinding } from '../backend.ts';
import type { CapturedModel } from '../capture/capture.ts';
import { ProgramInputError, SlotBindingError } from '../errors.ts';
import type { Graph, SlotInput } from '../graph.ts';
import { joinPath } from '../nn/module.ts';
import { type Dims, formatDims, localise } from '../shape.ts';
import { elementCount, zeros } from './host-tensor.ts';
import type { Sizes } from './sizes.ts';

/** A runtime slot of the whole model. */
interface Bound {
  readonly path: string;
  readonly value: { readonly dtype: SlotInput['value']['dtype']; readonly dims: Dims };
  readonly binding: SlotBinding;
  /** `[slots, ...]`, for a cache. */
  readonly cache: HostTensor | null;
}

/** What the model's runtime slots are bound to: the caches, which live here, and the values of each step. */
export class SlotTensors {
  private readonly kvSlots: number;
  private slots: readonly Bound[];

  /** @param caches by path: those that another graph of the same model has already are shared with it. */
  constructor(
    { graph }: CapturedModel,
    { bindSlot, kvSlots }: Pick<CompileOptions, 'bindSlot' | 'kvSlots'>,
    caches = new Map<string, HostTensor>(),
  ) {
    this.kvSlots = kvSlots;
    this.slots = allSlots(graph).map(({ path, slot, value }) => {
      const binding = bindSlot(path, slot);
      return {
        path,
        value,
        binding,
        cache: binding.kind === 'cache' ? cacheOf(caches, path, value, cacheDims(path, value.dims, binding, kvSlots)) : null,
      };
    });
  }

  get cacheBytes(): number {
    return this.slots.reduce((sum, { cache }) => sum + (cache === null ? 0 : cache.data.byteLength), 0);
  }

  /** The tensor of each slot in this step, by path; a cache's shares the cache's memory. @throws ProgramInputError */
  bind(step: ProgramStep, sizes: Sizes): ReadonlyMap<string, HostTensor> {
    this.checkSlots(step);
    const tensors = new Map<string, HostTensor>();
    for (const { path, value, binding, cache } of this.slots) {
      const tensor = cache === null ? inputOf(step, (binding as { name: string }).name) : region(cache, step);
      const from = binding.kind === 'input' ? `input "${binding.name}", for slot ${path}` : `step.batch, for cache ${path}`;
      sizes.bindTensor(tensor, value, from);
      tensors.set(path, tensor);
    }
    return tensors;
  }

  [Symbol.dispose](): void {
    this.slots = [];
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

/** Slots of the graph and of every region that it calls, each once. */
function allSlots(graph: Graph): SlotInput[] {
  const found = new Map<string, SlotInput>();
  const add = (slots: readonly SlotInput[], prefix: string): void => {
    for (const { path, slot, value } of slots) {
      const full = joinPath(prefix, path);
      found.set(full, { path: full, slot, value: { ...value, dims: localise(value.dims, prefix) } });
    }
  };
  add(graph.slots, '');
  for (const node of graph.nodes) if (node.kind === 'region') add(node.region.graph.slots, node.path);
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
    throw new SlotBindingError(`A cache of shape ${formatDims(dims)} depends on "${dim.toString()}", which only a step knows.`, path);
  });
  if (dims.length === 0 || !Number.isSafeInteger(rows) || rows < 1)
    throw new SlotBindingError(`${rows} rows cannot serve a slot of shape ${formatDims(dims)}.`, path);
  return [kvSlots, ...local];
}

/** The slots of this step. */
function region(cache: HostTensor, { firstSlot, batch }: ProgramStep): HostTensor {
  const dims = cache.dims.slice(1);
  const size = elementCount(dims);
  return { dtype: cache.dtype, dims: [batch, ...dims], data: cache.data.subarray(firstSlot * size, (firstSlot + batch) * size) };
}
