import type { DType, StorageFormat } from './dtype.ts';
import { NotCapturingError } from './errors.ts';
import type { CapturedRegion, Graph, GraphInput, GraphNode, GraphRuntimeInput, Value, WeightSlot } from './graph.ts';
import { mapValues } from './graph-copy.ts';
import type { Buffer, Parameter } from './nn/parameter.ts';
import type { OpFacts } from './ops/define-op.ts';
import type { ops } from './ops/index.ts';
import { type Dims, dimsOf, localise } from './shape.ts';
import { SymbolicTensor } from './tensor.ts';

/** The type of one tensor, such as an op's output. */
export interface TensorType {
  readonly dtype: DType;
  readonly dims: Dims;
}

/** Collects a graph while a `forward` runs. One is active at a time, the innermost. */
export class GraphRecorder {
  private static stack: GraphRecorder[] = [];
  /** The id of the next value. */
  nextId: number;
  private readonly inputs: GraphInput[] = [];
  private readonly weights: WeightSlot[] = [];
  private readonly runtimeInputs: GraphRuntimeInput[] = [];
  private readonly slots = new Map<string, SymbolicTensor>();
  private readonly nodes: GraphNode[] = [];
  /** Path of the module whose property was read last, for nodes and errors. */
  currentPath = '';
  /** The method that returned a tensor or list last, with its module's path. */
  readonly returnedBy = new WeakMap<object, string>();
  /** The ops that the methods of tensors call. */
  readonly ops: typeof ops;

  constructor(known: typeof ops, firstId = 0) {
    this.ops = known;
    this.nextId = firstId;
  }

  /** @throws NotCapturingError outside of a capture. */
  static activeFor(op: string): GraphRecorder {
    const recorder = GraphRecorder.stack.at(-1);
    if (recorder === undefined) throw new NotCapturingError(`The op "${op}" is called outside of a capture.`);
    return recorder;
  }

  run<T>(body: () => T): T {
    GraphRecorder.stack.push(this);
    try {
      return body();
    } finally {
      GraphRecorder.stack.pop();
    }
  }

  input(name: string, dtype: DType, dims: Dims): SymbolicTensor {
    const tensor = this.tensor({ dtype, dims });
    this.inputs.push({ name, value: tensor.value });
    return tensor;
  }

  weight(path: string, source: Parameter | Buffer): SymbolicTensor {
    return this.slot(path, { dtype: 'float32', dims: dimsOf(source.shape) }, (value) => {
      this.weights.push({ path, format: source.dtype as StorageFormat, shape: source.shape, source, value });
    });
  }

  runtimeInput(path: string, kind: string, dtype: DType, dims: Dims): SymbolicTensor {
    return this.slot(path, { dtype, dims }, (value) => this.runtimeInputs.push({ path, kind, value }));
  }

  /** One slot a path, however often it is read. */
  private slot(path: string, type: TensorType, add: (value: Value) => void): SymbolicTensor {
    const known = this.slots.get(path);
    if (known !== undefined) return known;
    const tensor = this.tensor(type);
    this.slots.set(path, tensor);
    add(tensor.value);
    return tensor;
  }

  op(
    op: OpFacts,
    inputs: Record<string, SymbolicTensor | null>,
    attributes: Record<string, unknown>,
    types: readonly TensorType[],
  ): SymbolicTensor[] {
    const outputs = types.map((type) => this.tensor(type));
    const values = mapValues(inputs, (tensor) => tensor?.value ?? null);
    this.nodes.push({ kind: 'op', op, inputs: values, attributes, outputs: outputs.map((t) => t.value), path: this.currentPath });
    return outputs;
  }

  region(path: string, region: CapturedRegion, inputs: readonly SymbolicTensor[]): SymbolicTensor[] {
    const outputs = region.graph.outputs.map(({ value }) => this.tensor({ ...value, dims: localise(value.dims, path) }));
    this.nodes.push({ kind: 'region', path, region, inputs: inputs.map((t) => t.value), outputs: outputs.map((t) => t.value) });
    return outputs;
  }

  /** The ops recorded so far. */
  get recorded(): readonly GraphNode[] {
    return this.nodes;
  }

  finish(outputs: readonly { name: string; tensor: SymbolicTensor }[]): Graph {
    return {
      inputs: this.inputs,
      weights: this.weights,
      runtimeInputs: this.runtimeInputs,
      nodes: this.nodes,
      outputs: outputs.map(({ name, tensor }) => ({ name, value: tensor.value })),
    };
  }

  private tensor({ dtype, dims }: TensorType): SymbolicTensor {
    const value: Value = { id: this.nextId++, dtype, dims: Object.freeze(dims) };
    return new SymbolicTensor(value, this);
  }
}
