import type { DType, StorageFormat } from './dtype.ts';
import { NotCapturingError } from './errors.ts';
import type { CapturedRegion, Graph, GraphInput, GraphNode, GraphRuntimeInput, Value, WeightSlot } from './graph.ts';
import type { Buffer, Parameter } from './nn/parameter.ts';
import type { OpFacts } from './ops/define-op.ts';
import type { ops } from './ops/index.ts';
import { type Dims, dimsOf, localise } from './shape.ts';
import { SymbolicTensor } from './tensor.ts';

/** What an op says of one of its outputs. */
export interface TensorType {
  readonly dtype: DType;
  readonly dims: Dims;
}

/** Collects a graph while a `forward` runs. One is active at a time, the innermost. */
export class GraphRecorder {
  private static stack: GraphRecorder[] = [];
  /** Of the next value. */
  nextId: number;
  private readonly inputs: GraphInput[] = [];
  private readonly weights = new Map<string, WeightSlot & { tensor: SymbolicTensor }>();
  private readonly runtimeInputs = new Map<string, GraphRuntimeInput & { tensor: SymbolicTensor }>();
  private readonly nodes: GraphNode[] = [];
  /** Path of the module whose property was read last; nodes and errors are placed there. */
  currentPath = '';
  /** What the methods of tensors call. */
  readonly ops: typeof ops;

  constructor(known: typeof ops, firstId = 0) {
    this.ops = known;
    this.nextId = firstId;
  }

  /** @throws NotCapturingError outside of a capture. */
  static get active(): GraphRecorder {
    const recorder = GraphRecorder.stack.at(-1);
    if (recorder === undefined) throw new NotCapturingError('An op is called while nothing is captured.');
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

  /** One slot a path, however often it is read. */
  weight(path: string, source: Parameter | Buffer): SymbolicTensor {
    const known = this.weights.get(path);
    if (known !== undefined) return known.tensor;
    const tensor = this.tensor({ dtype: 'float32', dims: dimsOf(source.shape) });
    const format = source.dtype as StorageFormat;
    this.weights.set(path, { path, format, shape: source.shape, source, value: tensor.value, tensor });
    return tensor;
  }

  runtimeInput(path: string, kind: string, dtype: DType, dims: Dims): SymbolicTensor {
    const known = this.runtimeInputs.get(path);
    if (known !== undefined) return known.tensor;
    const tensor = this.tensor({ dtype, dims });
    this.runtimeInputs.set(path, { path, kind, value: tensor.value, tensor });
    return tensor;
  }

  op(
    op: OpFacts,
    inputs: Record<string, SymbolicTensor | null>,
    attributes: Record<string, unknown>,
    types: readonly TensorType[],
  ): SymbolicTensor[] {
    const outputs = types.map((type) => this.tensor(type));
    const values = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, tensor?.value ?? null]));
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
      weights: [...this.weights.values()].map(({ tensor: _, ...weight }) => weight),
      runtimeInputs: [...this.runtimeInputs.values()].map(({ tensor: _, ...input }) => input),
      nodes: this.nodes,
      outputs: outputs.map(({ name, tensor }) => ({ name, value: tensor.value })),
    };
  }

  private tensor({ dtype, dims }: TensorType): SymbolicTensor {
    const value: Value = { id: this.nextId++, dtype, dims };
    return new SymbolicTensor(value, this);
  }
}
