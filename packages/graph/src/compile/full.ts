import type { CapturedModel } from '../capture/capture.ts';
import { weightAt } from '../capture/guard.ts';
import type { StorageFormat } from '../dtype.ts';
import type { Graph, GraphRuntimeInput, OpNode, Value, WeightSlot } from '../graph.ts';
import { DimChange, GraphCopy } from '../graph-copy.ts';
import { joinPath } from '../nn/module.ts';
import type { Buffer, Parameter } from '../nn/parameter.ts';
import { localise } from '../shape.ts';
import { verifyGraph } from '../verify-graph.ts';

/**
 * The first step of full compilation: replaces every region call by the region's nodes, with the weights and runtime inputs of the module that is called.
 * Weights that are one object (tied, lent) become one slot. The result holds ops only.
 */
export function inlineRegions({ root, graph }: CapturedModel): Graph {
  const weights = new Map<Parameter | Buffer, WeightSlot>();
  const runtimeInputs: GraphRuntimeInput[] = [];
  const nodes: OpNode[] = [];
  let nextId = 0;
  const copyAt = (prefix: string) => new GraphCopy(new DimChange((dim) => localise([dim], prefix)[0]!), () => nextId++);

  /** Adds a graph whose inputs `copy` knows already. @returns its outputs */
  const add = (part: Graph, prefix: string, copy: GraphCopy): Value[] => {
    for (const slot of part.weights) {
      const path = joinPath(prefix, slot.path);
      const source = weightAt(root, path);
      const known = weights.get(source);
      if (known !== undefined) copy.set(slot.value, known.value);
      else weights.set(source, { ...slot, path, format: source.dtype as StorageFormat, source, value: copy.define(slot.value) });
    }
    for (const input of copy.defineAll(part.runtimeInputs)) runtimeInputs.push({ ...input, path: joinPath(prefix, input.path) });
    for (const node of part.nodes) {
      const path = joinPath(prefix, node.path);
      if (node.kind === 'op') nodes.push({ ...copy.op(node), path });
      else {
        const inner = copyAt(path);
        for (const [i, { value }] of node.region.graph.inputs.entries()) inner.set(value, copy.used(node.inputs[i]!));
        for (const [i, value] of add(node.region.graph, path, inner).entries()) copy.set(node.outputs[i]!, value);
      }
    }
    return part.outputs.map(({ value }) => copy.used(value));
  };

  const copy = copyAt('');
  const inputs = copy.defineAll(graph.inputs);
  const outputs = add(graph, '', copy).map((value, i) => ({ name: graph.outputs[i]!.name, value }));
  const inlined = { inputs, weights: [...weights.values()], runtimeInputs, nodes, outputs };
  verifyGraph(inlined);
  return inlined;
}
