import type { HostTensor } from '../backend.ts';
import { decomposeOps } from '../compile/decompose.ts';
import { GraphInvalidError, ProgramInputError } from '../errors.ts';
import type { Graph, GraphNode, OpNode, RegionNode, Value } from '../graph.ts';
import { joinPath } from '../nn/module.ts';
import { localise } from '../shape.ts';
import { kernelOf } from './kernels.ts';
import type { Sizes } from './sizes.ts';

/** All that the graphs of one step share. */
export interface StepContext {
  readonly sizes: Sizes;
  /** By full path. */
  readonly runtimeInputs: ReadonlyMap<string, HostTensor>;
  /** @param path full. */
  weight(path: string): HostTensor;
  readonly signal: AbortSignal | undefined;
}

type Values = Map<Value, HostTensor>;

/**
 * Runs a graph for the module under `path`, which has the weights and runtimeInputs.
 * @returns the outputs in the graph's order.
 */
export function runGraph(graph: Graph, path: string, inputs: readonly HostTensor[], step: StepContext): HostTensor[] {
  const { nodes, outputs } = decomposed(graph, path);
  const values: Values = new Map();
  for (const [i, { value }] of graph.inputs.entries()) values.set(value, inputs[i]!);
  for (const weight of graph.weights) values.set(weight.value, step.weight(joinPath(path, weight.path)));
  for (const input of graph.runtimeInputs) values.set(input.value, step.runtimeInputs.get(joinPath(path, input.path))!);
  for (const node of nodes) {
    step.signal?.throwIfAborted();
    const results = node.kind === 'op' ? runOp(node, path, values, step) : runRegion(node, values, step);
    for (const [i, result] of results.entries()) define(node, i, result, path, values, step);
  }
  return outputs.map(({ value }) => values.get(value)!);
}

/** Decomposed graphs by the captured ones. */
const known = new WeakMap<Graph, Graph>();

/** The graph in ops that have a kernel. @throws OpNotLoweredError */
export function decomposed(graph: Graph, path: string): Graph {
  const done = known.get(graph) ?? decomposeOps(graph, { isLowered: ({ op }) => kernelOf(op) !== null, platform: 'interpreter', path });
  known.set(graph, done);
  return done;
}

function runRegion({ path, region, inputs }: RegionNode, values: Values, step: StepContext): HostTensor[] {
  return runGraph(
    region.graph,
    path,
    inputs.map((value) => values.get(value)!),
    step,
  );
}

function runOp(node: OpNode, path: string, values: Values, step: StepContext): readonly HostTensor[] {
  const inputs = Object.fromEntries(Object.entries(node.inputs).map(([name, value]) => [name, value === null ? null : values.get(value)!]));
  return kernelOf(node.op)!(inputs as never, node.attributes as never, {
    outputDims: node.outputs.map((value) => localise(value.dims, path).map((dim) => step.sizes.evaluate(dim))),
    fail(what) {
      throw new ProgramInputError(what, `${node.op.name} at ${joinPath(path, node.path)}`);
    },
  });
}

/** Keeps a result, and holds inference to what it said of it. */
function define(node: GraphNode, index: number, result: HostTensor, path: string, values: Values, step: StepContext): void {
  const value = node.outputs[index]!;
  const expected = localise(value.dims, path).map((dim) => step.sizes.evaluate(dim));
  if (result.dtype !== value.dtype || result.dims.join() !== expected.join()) {
    throw new GraphInvalidError(
      `It gives ${result.dtype}[${result.dims.join(', ')}] where its graph says ${value.dtype}[${expected.join(', ')}].`,
      `${node.kind === 'op' ? node.op.name : node.region.name} at ${joinPath(path, node.path)}`,
    );
  }
  values.set(value, result);
}
