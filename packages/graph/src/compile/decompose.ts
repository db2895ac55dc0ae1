import { OpFaultyError, OpNotLoweredError, runPart } from '../errors.ts';
import type { Graph, GraphNode, OpNode, Value } from '../graph.ts';
import { mapValues } from '../graph-copy.ts';
import { GraphRecorder } from '../graph-recorder.ts';
import { joinPath } from '../nn/module.ts';
import type { OpFacts } from '../ops/define-op.ts';
import { ops } from '../ops/index.ts';
import { formatDims, sameDims } from '../shape.ts';
import { describeResult, SymbolicTensor } from '../tensor.ts';

/** The ops that a backend lowers, and names for errors. */
export interface DecomposeOptions {
  isLowered(node: OpNode): boolean;
  /** For errors. */
  platform: string;
  /** Of the module whose graph this is, for errors. */
  path?: string;
}

/**
 * Replaces each op that a backend does not lower by smaller ones, until the backend lowers all. Returns the same graph if it does already.
 * @throws OpNotLoweredError for an op with neither a lowering nor a decomposition.
 */
export function decomposeOps(graph: Graph, options: DecomposeOptions): Graph {
  if (graph.nodes.every((node) => node.kind === 'region' || options.isLowered(node))) return graph;
  const decomposer = new Decomposer(graph, options);
  for (const node of graph.nodes) decomposer.add(node, []);
  return { ...graph, nodes: decomposer.nodes, outputs: graph.outputs.map(({ name, value }) => ({ name, value: decomposer.used(value) })) };
}

class Decomposer {
  readonly nodes: GraphNode[] = [];
  private readonly options: DecomposeOptions;
  private readonly replaced = new Map<Value, Value>();
  private nextId: number;

  constructor({ inputs, weights, runtimeInputs, nodes }: Graph, options: DecomposeOptions) {
    this.options = options;
    const values = [...[...inputs, ...weights, ...runtimeInputs].map(({ value }) => value), ...nodes.flatMap(({ outputs }) => outputs)];
    this.nextId = 1 + values.reduce((largest, { id }) => Math.max(largest, id), 0);
  }

  used(value: Value): Value {
    return this.replaced.get(value) ?? value;
  }

  /** @param within the ops whose decomposition contains this node. */
  add(node: GraphNode, within: readonly OpFacts[]): void {
    if (node.kind === 'region') {
      this.nodes.push({ ...node, inputs: node.inputs.map((value) => this.used(value)) });
      return;
    }
    const current = { ...node, inputs: mapValues(node.inputs, (value) => value && this.used(value)) };
    if (this.options.isLowered(current)) this.nodes.push(current);
    else this.decompose(current, within);
  }

  private decompose(node: OpNode, within: readonly OpFacts[]): void {
    const { op, outputs, path } = node;
    const where = joinPath(this.options.path ?? '', path);
    if (op.decompose === null) throw new OpNotLoweredError(op, where, this.options.platform);
    if (within.includes(op))
      throw new OpFaultyError(op, `Its decompose leads back to it, and "${this.options.platform}" has no lowering of it.`, where);
    const recorder = new GraphRecorder(ops, this.nextId);
    recorder.currentPath = path;
    const inputs = mapValues(node.inputs, (value) => value && new SymbolicTensor(value, recorder));
    const expected = outputs.slice(0, outputs.length - op.inPlaceOf.length);
    const given = runPart(op, 'decompose', where, () => recorder.run(() => op.decompose!(inputs as never, node.attributes as never)));
    const results: readonly SymbolicTensor[] = Array.isArray(given) ? given : [given];
    const isRight = ({ dtype, dims }: Value, i: number): boolean => {
      const result = results[i];
      return result instanceof SymbolicTensor && result.recorder === recorder && result.dtype === dtype && sameDims(result.dims, dims);
    };
    if (results.length !== expected.length || !expected.every(isRight)) {
      const types = expected.map(({ dtype, dims }) => `${dtype}${formatDims(dims)}`).join(' and ');
      throw new OpFaultyError(
        op,
        `Its decompose gave ${results.map(describeResult).join(' and ') || 'nothing'}, expected ${types}.`,
        where,
      );
    }
    this.nextId = recorder.nextId;
    for (const part of recorder.recorded) this.add(part, [...within, op]);
    for (const [i, value] of expected.entries()) this.replaced.set(value, this.used(results[i]!.value));
  }
}
