import {
  type CompileOptions,
  type Dim,
  type DType,
  decomposeOps,
  describeResult,
  type Graph,
  OpFaultyError,
  type OpNode,
  ops,
  runPart,
  type Value,
} from '@graft/graph';
import { LoweringError } from './errors.ts';
import { findFusions } from './fusions.ts';
import { type Activations, cacheWidth, declaredDims, LoweringContext, type WeightInput } from './lowering-context.ts';
import { loweringOf, type OnnxLowering, ownLowering } from './lowerings.ts';
import type { WeightStore } from './weight-store.ts';

/** An input of a step. */
export interface StepInput {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly Dim[];
}

/** An output of a step. `tensor` is its name in the ONNX graph. */
export interface StepOutput extends StepInput {
  readonly tensor: string;
}

/** A KV cache, which a step extends in place: bind the same memory to `input` and `output` of the ONNX graph. */
export interface CacheTensor {
  /** The runtime input's path in the graph. */
  readonly path: string;
  readonly input: string;
  readonly output: string;
  /** Heads, rows and elements of one place. */
  readonly dims: readonly [heads: number, rows: number, headDim: number];
}

/** The names of the step inputs that attentions of a KV group share; null for a computed value, which cannot be checked. */
export interface AttentionGroup {
  readonly path: string;
  /** The path of the key cache's slot. */
  readonly keyCache: string;
  readonly queryStart: string | null;
  readonly sequenceLengths: string | null;
  readonly totalLength: string | null;
  /** Queries of a sequence in a step. */
  readonly sequence: Dim;
  readonly rows: number;
}

export interface ExportedGraph {
  readonly model: Uint8Array<ArrayBuffer>;
  readonly inputs: readonly StepInput[];
  readonly outputs: readonly StepOutput[];
  readonly caches: readonly CacheTensor[];
  readonly groups: readonly AttentionGroup[];
  /** The weights that are inputs of the ONNX graph; empty when weights are initializers. */
  readonly weights: readonly WeightInput[];
}

export interface ExportOptions {
  bindRuntimeInput: CompileOptions['bindRuntimeInput'];
  /**
   * Whether one kernel may replace several ops: sum and norm; split, rotation and attention. This is faster, but the rounding of an op then depends on its
   * neighbours. Default true.
   */
  fuse?: boolean;
  /** Lowerings of plugins for the platform. */
  lowerings?: readonly OnnxLowering[];
  /** For errors. Default "onnx". */
  platform?: string;
  /** Default "rounded". */
  activations?: Activations;
}

/**
 * Writes a flat graph (an inlined model, or a region) as an ONNX model.
 * @param weights Receives the weights as initializers over their memory. With `'inputs'`, each weight is a float32 input of the ONNX graph instead, so that the
 * graph serves other weights too: the export reads only the shapes of weights and loads nothing native, experts are one batched product whose work does not
 * depend on the routing, and equal graphs give equal bytes.
 * @throws LoweringError for an op that cannot be written as ONNX
 */
export function exportGraph(graph: Graph, weights: WeightStore | 'inputs', options: ExportOptions): ExportedGraph {
  return new Exporter(graph, weights === 'inputs' ? null : weights, options).run();
}

class Exporter {
  private readonly graph: Graph;
  private readonly options: ExportOptions;
  private readonly context: LoweringContext;
  private readonly inputs = new Map<string, StepInput>();
  private readonly inputNames = new Map<Value, string>();
  private readonly caches = new Map<Value, CacheTensor>();
  private readonly groups = new Map<string, AttentionGroup>();

  constructor(graph: Graph, weights: WeightStore | null, options: ExportOptions) {
    this.graph = graph;
    this.options = options;
    this.context = new LoweringContext(weights, {
      activations: options.activations ?? 'rounded',
      fuse: options.fuse ?? true,
      graphOutputs: new Set(graph.outputs.map(({ value }) => value)),
    });
  }

  run(): ExportedGraph {
    const { context } = this;
    const { lowerings = [], platform = 'onnx' } = this.options;
    const graph = decomposeOps(this.graph, { isLowered: (node) => loweringOf(node, lowerings) !== null, platform });
    for (const { name, value } of graph.inputs) this.addInput(name, value, `input ${name}`);
    for (const slot of graph.weights) context.weight(slot);
    for (const { path, kind, value } of graph.runtimeInputs) this.addRuntimeInput(path, kind, value);
    const { absorbed, attention } = context.fuse
      ? findFusions(graph, (node) => ownLowering(node, lowerings) !== null)
      : { absorbed: new Set<OpNode>(), attention: new Map() };
    for (const node of graph.nodes) {
      if (node.kind === 'region')
        throw new LoweringError(`The graph has a region, "${node.region.name}"; inline the regions first.`, node.path);
      if (absorbed.has(node)) continue;
      context.path = node.path;
      const lowered = { ...node, fused: attention.get(node) ?? null };
      const names = runPart(node.op, `lowering for "${platform}"`, node.path, () =>
        loweringOf(node, lowerings)!.lower(lowered as never, context),
      );
      const visible = node.outputs.length - node.op.inPlaceOf.length;
      if (!Array.isArray(names) || names.length < visible || !names.every((name) => typeof name === 'string')) {
        const what = `Its lowering for "${platform}" gave ${describeResult(names)}, expected a list of ${visible} names.`;
        throw new OpFaultyError(node.op, what, node.path);
      }
      for (const [i, name] of names.entries()) context.alias(node.outputs[i]!, name);
      if (node.op === ops.attention) this.addGroup(node);
    }
    const outputs = graph.outputs.map(({ name, value }) => this.addOutput(name, value));
    return {
      model: context.onnx.toBytes(),
      inputs: [...this.inputs.values()],
      outputs,
      caches: [...this.caches.values()],
      groups: [...this.groups.values()],
      weights: context.weightInputs,
    };
  }

  private addInput(name: string, value: Value, where: string): void {
    const known = this.inputs.get(name);
    if (known === undefined) {
      this.inputs.set(name, { name, dtype: value.dtype, dims: value.dims });
      this.context.input(value, name, value.dtype);
    } else {
      if (known.dtype !== value.dtype || known.dims.length !== value.dims.length) {
        throw new LoweringError(`Two inputs named "${name}" have different types or ranks.`, where);
      }
      this.context.alias(value, name);
    }
    this.inputNames.set(value, name);
  }

  private addRuntimeInput(path: string, kind: string, value: Value): void {
    const binding = this.options.bindRuntimeInput(path, kind);
    if (binding.kind === 'input') {
      this.addInput(binding.name, value, `runtime input ${path}`);
      return;
    }
    const [, heads, , headDim] = value.dims;
    if (value.dims.length !== 4 || heads?.isStatic !== true || headDim?.isStatic !== true) {
      throw new LoweringError('A cache must have dims [batch, heads, rows, headDim].', `runtime input ${path}`);
    }
    const cache: CacheTensor = {
      path,
      input: `cache ${path}`,
      output: `extended ${path}`,
      dims: [heads.value, binding.rows, cacheWidth(headDim.value)],
    };
    this.caches.set(value, cache);
    this.context.cache(value, cache.input, cache.output);
  }

  private addGroup({ inputs, path }: OpNode): void {
    const nameOf = (input: string): string | null => this.inputNames.get(inputs[input]!) ?? null;
    const cache = this.caches.get(inputs['keyCache']!)!;
    const group: AttentionGroup = {
      path,
      keyCache: cache.path,
      queryStart: nameOf('queryStart'),
      sequenceLengths: nameOf('sequenceLengths'),
      totalLength: nameOf('totalLength'),
      sequence: inputs['query']!.dims[1]!,
      rows: cache.dims[1],
    };
    const key = [group.queryStart, group.sequenceLengths, group.totalLength, group.sequence.toString(), group.rows].join(' ');
    if (!this.groups.has(key)) this.groups.set(key, group);
  }

  /** An input, a weight, a constant or a second output of the same tensor needs an `Identity` node. */
  private addOutput(name: string, value: Value): StepOutput {
    const { context } = this;
    context.path = `output ${name}`;
    let tensor = context.name(value);
    const taken =
      this.outputTensors.has(tensor) ||
      this.inputNames.has(value) ||
      context.weightOf(value) !== null ||
      this.inputs.has(tensor) ||
      context.isConstant(tensor);
    if (taken) tensor = context.op('Identity', [tensor]);
    this.outputTensors.add(tensor);
    context.onnx.output(tensor, value.dtype, declaredDims(value.dims));
    return { name, tensor, dtype: value.dtype, dims: value.dims };
  }

  private readonly outputTensors = new Set<string>();
}
