import { GraphInvalidError } from './errors.ts';
import type { Graph, GraphNode, OpNode, RegionNode, Value } from './graph.ts';
import { formatDims, localise, sameDims } from './shape.ts';

/**
 * The rules of a graph, checked after capture and after every pass. @throws GraphInvalidError that names the node.
 * @param typesAreInferred skips the types: a capture has just inferred each op's outputs from its inputs.
 */
export function verifyGraph(graph: Graph, { typesAreInferred = false }: { typesAreInferred?: boolean } = {}): void {
  const known = new Set<Value>();
  const define = (value: Value, where: () => string): void => {
    if (known.has(value)) throw new GraphInvalidError(`Value ${value.id} is defined twice.`, where());
    known.add(value);
  };
  for (const { name, value } of graph.inputs) define(value, () => `input ${name}`);
  for (const { path, value } of graph.weights) define(value, () => `weight ${path}`);
  for (const { path, value } of graph.runtimeInputs) define(value, () => `runtime input ${path}`);
  const runtimeInputs = new Set(graph.runtimeInputs.map(({ value }) => value));
  const written = new Set<Value>();
  for (const node of graph.nodes) {
    for (const value of Object.values(node.inputs)) {
      if (value !== null && !known.has(value))
        throw new GraphInvalidError(`Value ${(value as Value).id} is used before it is defined.`, placeOf(node));
    }
    if (node.kind === 'region') verifyRegion(node);
    else {
      if (!typesAreInferred) verifyTypes(node);
      verifyWrites(node, runtimeInputs, written);
    }
    for (const value of node.outputs) define(value, () => placeOf(node));
  }
  for (const { name, value } of graph.outputs)
    if (!known.has(value)) throw new GraphInvalidError('An output is not defined.', `output ${name}`);
}

function placeOf(node: GraphNode): string {
  return `${node.kind === 'op' ? node.op.name : node.region.name} at ${node.path}`;
}

function verifyTypes(node: OpNode): void {
  const types = node.op.inferTypes({ ...node.inputs }, { ...node.attributes });
  if (types.length !== node.outputs.length)
    throw new GraphInvalidError(`It has ${node.outputs.length} outputs, its op gives ${types.length}.`, placeOf(node));
  for (const [i, type] of types.entries()) {
    const output = node.outputs[i]!;
    if (output.dtype !== type.dtype || !sameDims(output.dims, type.dims)) {
      throw new GraphInvalidError(
        `Output ${i} is ${output.dtype}${formatDims(output.dims)}, its op gives ${type.dtype}${formatDims(type.dims)}.`,
        placeOf(node),
      );
    }
  }
}

function verifyWrites(node: OpNode, runtimeInputs: ReadonlySet<Value>, written: Set<Value>): void {
  for (const name of node.op.inPlaceOf) {
    const target = node.inputs[name];
    if (target === null || target === undefined || !runtimeInputs.has(target))
      throw new GraphInvalidError(`It writes to "${name}", which is not a runtime input.`, placeOf(node));
    if (written.has(target)) throw new GraphInvalidError(`It writes to "${name}", which another node writes too.`, placeOf(node));
    written.add(target);
  }
}

/** The inputs and outputs of a call match its region's graph in number and type. */
function verifyRegion(node: RegionNode): void {
  const { path, region, inputs, outputs } = node;
  compareValues('input', inputs, region.graph.inputs, '', node);
  compareValues('output', outputs, region.graph.outputs, path, node);
}

function compareValues(what: string, actual: readonly Value[], expected: Graph['inputs'], prefix: string, node: RegionNode): void {
  if (actual.length !== expected.length)
    throw new GraphInvalidError(`It has ${actual.length} ${what}s, its region ${expected.length}.`, placeOf(node));
  for (const [i, value] of actual.entries()) {
    const { dtype, dims } = expected[i]!.value;
    if (value.dtype !== dtype || !sameDims(value.dims, localise(dims, prefix)))
      throw new GraphInvalidError(
        `Its ${what} ${i} is ${value.dtype}${formatDims(value.dims)}, its region says ${dtype}${formatDims(dims)}.`,
        placeOf(node),
      );
  }
}
