import { type CompileOptions, type Dim, type DType, decomposeOps, type Graph, type OpNode, ops, type Value } from '@graft/graph';
import { LoweringError } from './errors.ts';
import { findFusions } from './fusions.ts';
import { type Activations, cacheWidth, declaredDims, LoweringContext, type WeightInput } from './lowering-context.ts';
import { loweringOf, type OnnxLowering, ownLowering } from './lowerings.ts';
import type { WeightStore } from './weight-store.ts';

/** What a step must bring, under this name. */
export interface StepInput {
  readonly name: string;
  readonly dtype: DType;
  readonly dims: readonly Dim[];
}

/** What a step gives under `name`; `tensor` is what the ONNX graph calls it. */
export interface StepOutput extends StepInput {
  readonly tensor: string;
}

/** A KV cache, read and extended in place: one memory is bound to the ONNX graph's `input` and `output`. */
export interface CacheTensor {
  /** The runtime input's path in the graph. */
  readonly path: string;
  readonly input: string;
  readonly output: string;
  /** Heads, rows and elements of one place. */
  readonly dims: readonly [heads: number, rows: number, headDim: number];
}

/** Names of the step inputs that attentions of one KV group share; null where the value is computed and cannot be checked. */
export interface AttentionGroup {
  readonly path: string;
  /** The path of the key cache's slot. */
  readonly keyCache: string;
  readonly queryStart: string | null;
  readonly sequenceLengths: string | null;
  readonly totalLength: string | null;
  /** Queries of a sequence in one step. */
  readonly sequence: Dim;
  readonly rows: number;
}

export interface ExportedGraph {
  readonly model: Uint8Array<ArrayBuffer>;
  readonly inputs: readonly StepInput[];
  readonly outputs: readonly StepOutput[];
  readonly caches: readonly CacheTensor[];
  readonly groups: readonly AttentionGroup[];
  /** The weights that the ONNX graph takes as inputs; none where they are initializers. */
  readonly weights: readonly WeightInput[];
}

/** How a graph is exported. */
export interface ExportOptions {
  bindRuntimeInput: CompileOptions['bindRuntimeInput'];
  /**
   * Whether one kernel may do what several ops say: sum and norm; split, rotation and attention. Faster, and rounded in another order than where the ops have
   * other neighbours. Default true.
   */
  fuse?: boolean;
  /** A plugin's, for the platform that the graph is for. */
  lowerings?: readonly OnnxLowering[];
  /** For errors. Default "onnx". */
  platform?: string;
  /** What becomes of activations in products with 4 bit weights. Default: rounded. */
  activations?: Activations;
}

/**
 * A flat graph (an inlined model, or one region's) as an ONNX model.
 * @param weights Takes the weights, as initializers over the memory where they lie. Or `'inputs'`: each weight is an input of the ONNX graph in float32,
 * named by its path, so that other weights need no other graph; then nothing of a weight but its shape is read, experts are one batched product over all of
 * them whose work does not depend on the routing, and nothing native is loaded. The same graph gives the same bytes.
 * @throws LoweringError for what has no form in ONNX Runtime.
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
      if (node.kind === 'region') throw new LoweringError(`Region "${node.region.name}" is not inlined.`, node.path);
      if (absorbed.has(node)) continue;
      context.path = node.path;
      const lowered = { ...node, fused: attention.get(node) ?? null };
      const names = loweringOf(node, lowerings)!.lower(lowered as never, context);
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
        throw new LoweringError(`The name "${name}" stands for tensors of different type or rank.`, where);
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

  /** A tensor that a node makes is an output as it is; an input, a weight or a second mention needs a node of its own. */
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
