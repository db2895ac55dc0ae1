import { Disposables, DisposedError } from '@graft/common';
import { type CacheMove, type HostTensor, moveRows, type Program, ProgramBusyError, type ProgramStep } from '@graft/graph';
import { checkStep, type ExportedGraph, type StepInput, type Symbols, sizesOf, tensorBytes } from '@graft/onnx-export';
import { type IoBinding, OrtValue, type Session } from '@graft/onnxruntime';
import { type ElementType, PinnedBuffer, returnFreeMemory } from '@graft/system';

/** The most bindings that are kept, one for each group of slots that ran. The oldest one is dropped first. */
const maxBindings = 128;

/** A graph with its session. */
export interface CompiledGraph {
  readonly session: Session;
  readonly exported: ExportedGraph;
}

export interface OrtProgramParts {
  /** For runs of one token in each sequence. */
  decode: CompiledGraph;
  /** For other runs. Has the inputs, outputs and caches of `decode`, and may be the same object. */
  prefill: CompiledGraph;
  kvSlots: number;
  weightBytes: number;
  /** Session, environment and weights. The program takes them over and disposes them last. */
  resources: Disposables;
}

/** A model in ONNX Runtime, with its KV caches, which runs extend in place. */
export class OrtProgram implements Program {
  readonly facts: Program['facts'];
  /** For profiling and tests. @internal */
  readonly decode: CompiledGraph;
  readonly prefill: CompiledGraph;
  private readonly kvSlots: number;
  private readonly resources: Disposables;
  private readonly caches: readonly PinnedBuffer[];
  private readonly bindings = new Map<string, IoBinding>();
  private readonly inputs: ReadonlyMap<string, TensorRoom>;
  private readonly outputs: ReadonlyMap<string, TensorRoom>;
  private running = false;
  private disposed = false;

  constructor({ decode, prefill, kvSlots, weightBytes, resources }: OrtProgramParts) {
    const { inputs, outputs, caches } = decode.exported;
    const rooms = (tensors: readonly StepInput[]) =>
      new Map(tensors.map(({ name, dtype }) => [name, resources.use(new TensorRoom(dtype))]));
    this.decode = decode;
    this.prefill = prefill;
    this.kvSlots = kvSlots;
    this.caches = caches.map(({ dims }) => resources.use(PinnedBuffer.allocate(kvSlots * tensorBytes('float32', dims))));
    this.inputs = rooms(inputs);
    this.outputs = rooms(outputs);
    resources.defer(() => {
      for (const binding of this.bindings.values()) binding[Symbol.dispose]();
    });
    this.resources = resources.move();
    const cacheBytes = this.caches.reduce((sum, { byteLength }) => sum + byteLength, 0);
    this.facts = { graphs: decode === prefill ? 1 : 2, weightBytes, cacheBytes };
  }

  /**
   * Runs off the event loop. After an abort the caches of these slots are partly written.
   * @throws ProgramInputError before anything runs; ProgramBusyError; DisposedError; OrtCallError; the signal's reason
   */
  async run(step: ProgramStep): Promise<Record<string, HostTensor>> {
    this.assertUsable();
    if (this.running) throw new ProgramBusyError();
    const symbols = checkStep(this.decode.exported, step, this.kvSlots);
    step.signal?.throwIfAborted();
    const graph = isDecode(this.decode.exported, symbols) ? this.decode : this.prefill;
    const binding = this.bindingFor(graph, step);
    for (const { name } of graph.exported.inputs) {
      const { dims, data } = step.inputs[name]!;
      const value = this.inputs.get(name)!.hold(dims);
      (value.view as { set(source: ArrayLike<number | bigint>): void }).set(data);
      binding.bindInput(name, value);
    }
    for (const { name, tensor, dims } of graph.exported.outputs)
      binding.bindOutput(tensor, this.outputs.get(name)!.hold(sizesOf(dims, symbols)));
    this.running = true;
    try {
      await graph.session.run(binding, { signal: step.signal });
    } finally {
      this.running = false;
    }
    this.assertUsable();
    return Object.fromEntries(graph.exported.outputs.map(({ name }) => [name, this.outputs.get(name)!.tensor()]));
  }

  /** See `Program`. @throws ProgramBusyError during a run; DisposedError */
  moveCacheRows(moves: readonly CacheMove[]): void {
    this.assertUsable();
    if (this.running) throw new ProgramBusyError();
    const { caches } = this.decode.exported;
    for (const move of moves) {
      const i = caches.findIndex(({ path }) => path === move.path);
      const { dims } = caches[i]!;
      using slot = OrtValue.over(this.caches[i]!, 'float32', dims, move.slot * tensorBytes('float32', dims));
      moveRows(slot.view as Float32Array, dims, move);
    }
  }

  /** May be called twice, and during a run, which then rejects. Native memory is freed when the run ends. */
  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.disposed = true;
    this.resources[Symbol.dispose]();
    returnFreeMemory(); // otherwise a reload holds the freed memory too
  }

  private assertUsable(): void {
    if (this.disposed) throw new DisposedError('The program');
  }

  private bindingFor(graph: CompiledGraph, { firstSlot, batch }: ProgramStep): IoBinding {
    const key = `${graph === this.decode ? 'decode' : 'prefill'} ${firstSlot}:${batch}`;
    const known = this.bindings.get(key);
    if (known !== undefined) return known;
    if (this.bindings.size >= maxBindings) {
      const [oldest, binding] = this.bindings.entries().next().value!;
      this.bindings.delete(oldest);
      binding[Symbol.dispose]();
    }
    const made = this.bindSlots(graph, firstSlot, batch);
    this.bindings.set(key, made);
    return made;
  }

  /** A binding to the caches of `batch` slots from `firstSlot` on. Past and present share their memory, so that nothing is copied. */
  private bindSlots({ session, exported: { caches } }: CompiledGraph, firstSlot: number, batch: number): IoBinding {
    using values = new Disposables(); // the binding keeps them alive
    const offset = (dims: readonly number[]): number => firstSlot * tensorBytes('float32', dims);
    const bound = caches.map(({ dims }, i) => values.use(OrtValue.over(this.caches[i]!, 'float32', [batch, ...dims], offset(dims))));
    return session.bind({
      inputs: Object.fromEntries(caches.map(({ input }, i) => [input, bound[i]!])),
      outputs: Object.fromEntries(caches.map(({ output }, i) => [output, bound[i]!])),
    });
  }
}

/** Whether every sequence has one query. */
function isDecode({ groups }: ExportedGraph, symbols: Symbols): boolean {
  return groups.every(({ sequence }) => sequence.evaluate((symbol) => symbols.get(symbol)) === 1);
}

/** The memory of one input or output. It grows to the largest shape that ran. */
class TensorRoom implements Disposable {
  private readonly type: HostTensor['dtype'];
  private memory: PinnedBuffer | null = null;
  private value: OrtValue | null = null;

  constructor(type: HostTensor['dtype']) {
    this.type = type;
  }

  /** A value of these dims, which replaces the one before. */
  hold(dims: readonly number[]): OrtValue {
    if (this.value?.dims.join() === dims.join()) return this.value;
    this.value?.[Symbol.dispose]();
    const bytes = tensorBytes(this.type, dims);
    if (this.memory === null || this.memory.byteLength < bytes) {
      this.memory?.[Symbol.dispose]();
      this.memory = PinnedBuffer.allocate(bytes);
    }
    this.value = OrtValue.over(this.memory, this.type as ElementType, dims);
    return this.value;
  }

  tensor(): HostTensor {
    const { dims, view } = this.value!;
    return { dtype: this.type, dims, data: view as HostTensor['data'] };
  }

  [Symbol.dispose](): void {
    this.value?.[Symbol.dispose]();
    this.memory?.[Symbol.dispose]();
  }
}
