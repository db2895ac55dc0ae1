import { NativeResource } from '@graft/common';
import koffi from 'koffi';
import { tensorLayout } from './binding.ts';
import type { Device } from './device.ts';
import { GgmlTensorError } from './errors.ts';
import { ggml, type Handle } from './library.ts';
import { blockOf, type Tensor, type TensorArena } from './tensor.ts';

/** What one computation reads: values by input, and by window its place. */
export type GraphInputs = ReadonlyMap<Tensor, Float32Array | Int32Array | Uint16Array | number>;

/** A view that each computation places. @internal */
export interface Window {
  readonly tensor: Tensor;
  /** The largest place. */
  readonly room: number;
}

/** The memory of inputs and intermediate results. Graphs that share it must not run at once. It grows to the largest graph. */
export class GraphMemory extends NativeResource {
  /** @internal */
  readonly handle: Handle<'gallocr'>;
  private generation = 0;
  private size = 0;

  constructor(device: Device) {
    super();
    const { calls } = ggml();
    this.handle = calls.ggml_gallocr_new(calls.ggml_backend_dev_buffer_type(device.handle))!;
  }

  get byteLength(): number {
    return this.size;
  }

  /** Changes when the memory moves, which ends the use of all earlier graphs. @internal */
  get state(): number {
    return this.generation;
  }

  /** @internal */
  allot(graph: Handle<'cgraph'>): void {
    this.assertUsable();
    const { calls } = ggml();
    ggml().logged(
      'The graph does not fit into the memory of the device.',
      undefined,
      () => calls.ggml_gallocr_alloc_graph(this.handle, graph) || null,
    );
    const size = calls.ggml_gallocr_get_buffer_size(this.handle, 0);
    if (size !== this.size) this.generation += 1;
    this.size = size;
  }

  protected override describe(): string {
    return 'The memory of this graph';
  }

  protected override free(): void {
    ggml().calls.ggml_gallocr_free(this.handle);
  }
}

/** A graph that is ready to compute. Made by `GraphBuilder.build`. */
export class Graph extends NativeResource {
  readonly inputs: readonly Tensor[];
  readonly outputs: readonly Tensor[];
  /** Computations in one run. */
  readonly nodes: number;
  /** @internal */
  readonly handle: Handle<'cgraph'>;
  private readonly arena: TensorArena;
  private readonly context: Handle<'context'>;
  private readonly memory: GraphMemory;
  private readonly state: number;
  private readonly title: string;
  private readonly windows: readonly (Window & { address: bigint; offset: bigint; place: number })[];

  /** @internal */
  constructor(
    arena: TensorArena,
    memory: GraphMemory,
    tensors: {
      inputs: readonly Tensor[];
      windows: readonly Window[];
      outputs: readonly Tensor[];
      written: readonly Tensor[];
      made: number;
    },
    title: string,
  ) {
    super();
    this.title = title;
    const { calls } = ggml();
    const { inputs, windows, outputs, written, made } = tensors;
    const size = made + inputs.length + outputs.length + 64;
    this.context = calls.ggml_init({ mem_size: calls.ggml_graph_overhead_custom(size, false) + 1024, mem_buffer: null, no_alloc: true })!;
    this.handle = calls.ggml_new_graph_custom(this.context, size, false)!;
    this.inputs = inputs;
    this.outputs = outputs;
    for (const { handle } of inputs) calls.ggml_set_input(handle);
    for (const { handle } of outputs) calls.ggml_set_output(handle);
    for (const { handle } of [...inputs, ...written, ...outputs]) calls.ggml_build_forward_expand(this.handle, handle);
    this.nodes = calls.ggml_graph_n_nodes(this.handle);
    this.arena = arena;
    this.memory = memory.retain();
    try {
      memory.allot(this.handle);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
    this.state = memory.state;
    const field = (tensor: Tensor, name: 'data' | 'view_offs'): bigint =>
      BigInt(koffi.decode(tensor.handle, tensorLayout.offsets[name], 'uint64_t') as number | bigint);
    this.windows = windows.map((window) => {
      const [address, offset] = [field(window.tensor, 'data'), field(window.tensor, 'view_offs')];
      return { ...window, address, offset, place: 0 };
    });
  }

  /** Whether its memory is still where it was. A graph that is built later may move it. */
  get isCurrent(): boolean {
    return this.state === this.memory.state;
  }

  /** Writes all inputs and places all windows. @throws GgmlTensorError for a missing or wrong one, before any is written @internal */
  fill(values: GraphInputs): void {
    this.assertCurrent();
    for (const tensor of this.inputs) checkInput(tensor, values.get(tensor));
    for (const window of this.windows) checkPlace(window, values.get(window.tensor));
    const { calls } = ggml();
    for (const tensor of this.inputs) {
      const data = values.get(tensor) as Int32Array;
      calls.ggml_backend_tensor_set(tensor.handle, data, 0, data.byteLength);
    }
    for (const window of this.windows) {
      const { tensor, address, offset } = window;
      const place = values.get(tensor) as number;
      if (place === window.place) continue;
      koffi.encode(tensor.handle, tensorLayout.offsets.data, 'uint64_t', address + BigInt(place));
      koffi.encode(tensor.handle, tensorLayout.offsets.view_offs, 'uint64_t', offset + BigInt(place));
      window.place = place;
    }
  }

  /** Copies an output into `target`. @throws GgmlTensorError */
  read(output: Tensor, target: Float32Array | Int32Array): void {
    this.assertCurrent();
    if (!this.outputs.includes(output)) throw new GgmlTensorError(output.toString(), 'The tensor is no output of this graph.');
    if (target.byteLength !== output.bytes)
      throw new GgmlTensorError(output.toString(), `The tensor has ${output.bytes} bytes; there is room for ${target.byteLength}.`);
    ggml().calls.ggml_backend_tensor_get(output.handle, target, 0, target.byteLength);
  }

  /** @internal */
  assertCurrent(): void {
    this.assertUsable();
    if (!this.isCurrent) throw new GgmlTensorError('a graph', 'A larger graph has moved the memory of this one.', 'build the graph again.');
  }

  override toString(): string {
    return `${this.title} (${this.nodes} nodes; inputs ${this.inputs.join(', ')})`;
  }

  protected override describe(): string {
    return 'The graph';
  }

  protected override free(): void {
    ggml().calls.ggml_free(this.context);
    this.arena[Symbol.dispose]();
    this.memory.release();
  }
}

const arrays: Partial<Record<Tensor['type'], unknown>> = { F32: Float32Array, I32: Int32Array, F16: Uint16Array };

function checkPlace({ tensor, room }: Window, place: unknown): void {
  if (Number.isSafeInteger(place) && (place as number) >= 0 && (place as number) <= room && (place as number) % tensor.nb[0] === 0) return;
  throw new GgmlTensorError(`window ${tensor}`, `Its place is ${String(place)}, expected a multiple of ${tensor.nb[0]} up to ${room}.`);
}

function checkInput(tensor: Tensor, data: ArrayBufferView | number | undefined): void {
  const where = `input ${tensor}`;
  if (data === undefined)
    throw new GgmlTensorError(where, 'The input is missing.', 'give all inputs each time: a graph reuses their memory.');
  if (!(data instanceof (arrays[tensor.type] as typeof Int32Array)))
    throw new GgmlTensorError(where, `The data is ${data.constructor.name}.`);
  if (data.byteLength !== tensor.elements * blockOf(tensor.type).bytes)
    throw new GgmlTensorError(where, `The input has ${tensor.elements} elements; ${data.length} were given.`);
  if (tensor.below === null) return;
  const wrong = data.find((index) => !(index >= 0 && index < tensor.below!));
  if (wrong !== undefined) throw new GgmlTensorError(where, `Index ${wrong} is not from 0 to ${tensor.below - 1}.`);
}
