import { GraphInvalidError } from './errors.ts';
import type { Graph, OpNode, RegionNode, Value } from './graph.ts';
import type { OpFacts } from './ops/define-op.ts';
import { ops } from './ops/index.ts';
import { formatDims, localise, sameDims } from './shape.ts';

/**
 * The rules of a graph, checked after capture and after every pass. @throws GraphInvalidError that names the node.
 * @param typesAreInferred each op's outputs have just been inferred from its inputs, as in a capture, so that this need not be done again.
 */
export function verifyGraph(graph: Graph, { typesAreInferred = false }: { typesAreInferred?: boolean } = {}): void {
  const known = new Set<Value>();
  const define = (value: Value, where: string): void => {
    if (known.has(value)) throw new GraphInvalidError(`Value ${value.id} is defined twice.`, where);
    known.add(value);
  };
  for (const { name, value } of graph.inputs) define(value, `input ${name}`);
  for (const { path, value } of graph.weights) define(value, `weight ${path}`);
  for (const { path, value } of graph.slots) define(value, `slot ${path}`);
  const slots = new Set(graph.slots.map((slot) => slot.value));
  const written = new Set<Value>();
  for (const node of graph.nodes) {
    const where = `${node.kind === 'op' ? node.op : node.region.name} at ${node.path}`;
    for (const value of Object.values(node.inputs)) {
      if (value !== null && !known.has(value))
        throw new GraphInvalidError(`Value ${(value as Value).id} is used before it is defined.`, where);
    }
    if (node.kind === 'region') verifyRegion(node, where);
    else {
      if (!typesAreInferred) verifyTypes(node, where);
      verifyWrites(node, slots, written, where);
    }
    for (const value of node.outputs) define(value, where);
  }
  for (const { name, value } of graph.outputs)
    if (!known.has(value)) throw new GraphInvalidError('An output is defined nowhere.', `output ${name}`);
}

function verifyTypes(node: OpNode, where: string): void {
  const op: OpFacts = ops[node.op];
  const types = op.inferTypes({ ...node.inputs }, { ...node.attributes });
  if (types.length !== node.outputs.length)
    throw new GraphInvalidError(`It has ${node.outputs.length} outputs, its op gives ${types.length}.`, where);
  for (const [i, type] of types.entries()) {
    const output = node.outputs[i]!;
    if (output.dtype !== type.dtype || !sameDims(output.dims, type.dims)) {
      throw new GraphInvalidError(
        `Output ${i} is ${output.dtype}${formatDims(output.dims)}, its op gives ${type.dtype}${formatDims(type.dims)}.`,
        where,
      );
    }
  }
}

function verifyWrites(node: OpNode, slots: ReadonlySet<Value>, written: Set<Value>, where: string): void {
  for (const name of (ops[node.op] as OpFacts).inPlaceOf) {
    const target = node.inputs[name];
    if (target === null || target === undefined || !slots.has(target))
      throw new GraphInvalidError(`It writes to "${name}", which is no runtime slot.`, where);
    if (written.has(target)) throw new GraphInvalidError(`It writes to "${name}", which another node writes too.`, where);
    written.add(target);
  }
}

/** A region's graph gets as many tensors as it takes, of the types that it was captured with, and gives what the call says. */
function verifyRegion({ path, region, inputs, outputs }: RegionNode, where: string): void {
  compareValues('input', inputs, region.graph.inputs, '', where);
  compareValues('output', outputs, region.graph.outputs, path, where);
}

function compareValues(what: string, actual: readonly Value[], expected: Graph['inputs'], prefix: string, where: string): void {
  if (actual.length !== expected.length)
    throw new GraphInvalidError(`It has ${actual.length} ${what}s, its region ${expected.length}.`, where);
  for (const [i, value] of actual.entries()) {
    const { dtype, dims } = expected[i]!.value;
    if (value.dtype !== dtype || !sameDims(value.dims, localise(dims, prefix)))
      throw new GraphInvalidError(
        `Its ${what} ${i} is ${value.dtype}${formatDims(value.dims)}, its region says ${dtype}${formatDims(dims)}.`,
        where,
      );
  }
}
