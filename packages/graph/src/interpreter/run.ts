import type { HostTensor } from '../backend.ts';
import { decomposeOps } from '../compile/decompose.ts';
import { OpFaultyError, ProgramInputError, runPart } from '../errors.ts';
import type { Graph, OpNode, Value } from '../graph.ts';
import { mapValues } from '../graph-copy.ts';
import { describeResult } from '../tensor.ts';
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

/** Keeps the results, and checks that they have the inferred types. */
function runOp({ op, inputs, attributes, outputs, path }: OpNode, values: Map<Value, HostTensor>, sizes: Sizes): void {
  const where = `${op.name} at ${path}`;
  const given = mapValues(inputs, (value) => value && values.get(value)!);
  const outputDims = outputs.map(({ dims }) => dims.map((dim) => sizes.evaluate(dim)));
  const fail = (what: string): never => {
    throw new ProgramInputError(what, where);
  };
  const results = runPart(op, 'kernel', path, () => kernelOf(op)!(given as never, attributes as never, { outputDims, fail }));
  const visible = outputs.length - op.inPlaceOf.length;
  if (!Array.isArray(results) || results.length < visible || results.length > outputs.length)
    throw new OpFaultyError(op, `Its kernel gave ${describeResult(results)}, expected a list of ${visible}.`, path);
  for (const [i, result] of (results as readonly HostTensor[]).entries()) {
    const expected = `${outputs[i]!.dtype}[${outputDims[i]!.join(', ')}]`;
    const isTensor = Array.isArray(result?.dims) && ArrayBuffer.isView(result.data);
    const actual = isTensor ? `${result.dtype}[${result.dims.join(', ')}]` : describeResult(result);
    const size = outputDims[i]!.reduce((product, dim) => product * dim, 1);
    if (actual !== expected) throw new OpFaultyError(op, `Its kernel gave ${actual}, expected ${expected}.`, path);
    if (result.data.length !== size) throw new OpFaultyError(op, `Its kernel gave ${result.data.length} values, expected ${size}.`, path);
    values.set(outputs[i]!, result);
  }
}
