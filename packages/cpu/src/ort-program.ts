import { Disposables, DisposedError } from '@graft/common';
import { type HostTensor, type Program, ProgramBusyError, type ProgramStep } from '@graft/graph';
import { checkStep, type ExportedGraph, type Symbols, sizesOf, tensorBytes } from '@graft/onnx-export';
import { type ElementType, type IoBinding, PinnedBuffer, returnFreeMemory, type Session, Value } from '@graft/onnxruntime';

/** Bindings kept, one for each group of slots that ran; the oldest goes first. */
const maxBindings = 128;

/** A graph in its session. */
export interface CompiledGraph {
  readonly session: Session;
  readonly exported: ExportedGraph;
}

export interface OrtProgramParts {
  /** For runs of one token a sequence. */
  decode: CompiledGraph;
  /** For all others; the same object where there is no difference. Inputs, outputs and caches are those of `decode`. */
  prefill: CompiledGraph;
  kvSlots: number;
  weightBytes: number;
  /** What the program takes over and disposes last: session, environment, weights. */
  resources: Disposables;
}

/** A model in ONNX Runtime, with its KV caches in memory of its own, read and extended in place. */
export class OrtProgram implements Program {
  readonly facts: Program['facts'];
  /** For profiling and tests. @internal */
  readonly decode: CompiledGraph;
  readonly prefill: CompiledGraph;
  private readonly kvSlots: number;
  private readonly resources: Disposables;
  private readonly caches: readonly PinnedBuffer[];
  private readonly bindings = new Map<string, SlotsBinding>();
  private readonly inputs = new Map<string, TensorRoom>();
  private readonly outputs = new Map<string, TensorRoom>();
  private running = false;
  private disposed = false;

  constructor({ decode, prefill, kvSlots, weightBytes, resources }: OrtProgramParts) {
    const { exported } = decode;
    this.decode = decode;
    this.prefill = prefill;
    this.kvSlots = kvSlots;
    this.caches = exported.caches.map(({ dims }) => resources.use(PinnedBuffer.allocate(kvSlots * tensorBytes('float32', dims))));
    for (const { name, dtype } of exported.inputs) this.inputs.set(name, resources.use(new TensorRoom(dtype)));
    for (const { name, dtype } of exported.outputs) this.outputs.set(name, resources.use(new TensorRoom(dtype)));
    resources.defer(() => {
      for (const binding of this.bindings.values()) binding[Symbol.dispose]();
    });
    this.resources = resources.move();
    const cacheBytes = this.caches.reduce((sum, { byteLength }) => sum + byteLength, 0);
    this.facts = { graphs: decode === prefill ? 1 : 2, weightBytes, cacheBytes };
  }

  /**
   * Runs off the event loop.
   * @throws ProgramInputError before anything runs; ProgramBusyError; DisposedError; OrtCallError; the signal's reason when it is aborted, with the caches
   * of these slots then partly written.
   */
  async run(step: ProgramStep): Promise<Record<string, HostTensor>> {
    if (this.disposed) throw new DisposedError('The program');
    if (this.running) throw new ProgramBusyError();
    const symbols = checkStep(this.decode.exported, step, this.kvSlots);
    step.signal?.throwIfAborted();
    const graph = isDecode(this.decode.exported, symbols) ? this.decode : this.prefill;
    const { binding } = this.bindingFor(graph, step);
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
      await graph.session.run(binding, step.signal === undefined ? {} : { signal: step.signal });
    } finally {
      this.running = false;
    }
    if (this.disposed) throw new DisposedError('The program');
    return Object.fromEntries(graph.exported.outputs.map(({ name }) => [name, this.outputs.get(name)!.tensor()]));
  }

  /** Twice without harm, and during a run: native memory is freed when the run ends, and the run then rejects. */
  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.disposed = true;
    this.resources[Symbol.dispose]();
    returnFreeMemory(); // a reload would else hold what it has freed
  }

  private bindingFor(graph: CompiledGraph, { firstSlot, batch }: ProgramStep): SlotsBinding {
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

  /** A binding whose caches are those of `batch` slots from `firstSlot` on. Past and present are one memory, so that nothing is copied. */
  private bindSlots({ session, exported }: CompiledGraph, firstSlot: number, batch: number): SlotsBinding {
    using building = new Disposables();
    const binding = building.use(session.createBinding());
    for (const [i, { input, output, dims }] of exported.caches.entries()) {
      const offset = firstSlot * tensorBytes('float32', dims);
      const value = building.use(Value.over(this.caches[i]!, 'float32', [batch, ...dims], offset));
      binding.bindInput(input, value);
      binding.bindOutput(output, value);
    }
    const resources = building.move();
    return { binding, [Symbol.dispose]: () => resources[Symbol.dispose]() };
  }
}

/** Whether every sequence has one query. */
function isDecode({ groups }: ExportedGraph, symbols: Symbols): boolean {
  return groups.every(({ sequence }) => sequence.evaluate((symbol) => symbols.get(symbol)) === 1);
}

interface SlotsBinding extends Disposable {
  readonly binding: IoBinding;
}

/** Memory for one input or output, which grows to the largest shape that was asked for. */
class TensorRoom implements Disposable {
  private readonly type: HostTensor['dtype'];
  private memory: PinnedBuffer | null = null;
  private value: Value | null = null;

  constructor(type: HostTensor['dtype']) {
    this.type = type;
  }

  /** A value of these dims; what was held before is gone. */
  hold(dims: readonly number[]): Value {
    if (this.value !== null && sameSizes(this.value.dims, dims)) return this.value;
    this.value?.[Symbol.dispose]();
    const bytes = tensorBytes(this.type, dims);
    if (this.memory === null || this.memory.byteLength < bytes) {
      this.memory?.[Symbol.dispose]();
      this.memory = PinnedBuffer.allocate(bytes);
    }
    this.value = Value.over(this.memory, this.type as ElementType, dims);
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

function sameSizes(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}
