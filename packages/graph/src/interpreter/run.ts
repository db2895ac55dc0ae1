import type { HostTensor } from '../backend.ts';
import { decomposeOps } from '../compile/decompose.ts';
import { GraphInvalidError, ProgramInputError } from '../errors.ts';
import type { Graph, OpNode, Value } from '../graph.ts';
import { kernelOf } from './kernels.ts';
import type { Sizes } from './sizes.ts';

/** The graph in ops that have a kernel. @throws OpNotLoweredError */
export function decomposed(graph: Graph): Graph {
  return decomposeOps(graph, { isLowered: ({ op }) => kernelOf(op) !== null, platform: 'interpreter' });
}

/**
 * Runs a decomposed graph without regions.
 * @param values of the graph's inputs, weights and runtime inputs; each node adds its own.
 * @returns the outputs in the graph's order.
 */
export function runGraph({ nodes, outputs }: Graph, values: Map<Value, HostTensor>, sizes: Sizes, signal?: AbortSignal): HostTensor[] {
  for (const node of nodes as readonly OpNode[]) {
    signal?.throwIfAborted();
    runOp(node, values, sizes);
  }
  return outputs.map(({ value }) => values.get(value)!);
}

/** Keeps the results, and holds inference to the types that it gave them. */
function runOp({ op, inputs, attributes, outputs, path }: OpNode, values: Map<Value, HostTensor>, sizes: Sizes): void {
  const where = `${op.name} at ${path}`;
  const given = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, value && values.get(value)!]));
  const outputDims = outputs.map(({ dims }) => dims.map((dim) => sizes.evaluate(dim)));
  const fail = (what: string): never => {
    throw new ProgramInputError(what, where);
  };
  const results = kernelOf(op)!(given as never, attributes as never, { outputDims, fail });
  for (const [i, result] of results.entries()) {
    const { dtype } = outputs[i]!;
    const [actual, expected] = [result.dims.join(', '), outputDims[i]!.join(', ')];
    if (result.dtype !== dtype || actual !== expected)
      throw new GraphInvalidError(`It gives ${result.dtype}[${actual}] where its graph says ${dtype}[${expected}].`, where);
    values.set(outputs[i]!, result);
  }
}
