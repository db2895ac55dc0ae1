import type { CapturedModel } from '../capture/capture.ts';
import { follow, keysOf } from '../capture/guard.ts';
import type { StorageFormat } from '../dtype.ts';
import type { Graph, GraphNode, GraphRuntimeInput, OpNode, RegionNode, Value, WeightSlot } from '../graph.ts';
import { joinPath } from '../nn/module.ts';
import type { Buffer, Parameter } from '../nn/parameter.ts';
import { Dim, localise } from '../shape.ts';
import { verifyGraph } from '../verify-graph.ts';

/**
 * Full compilation's first step: every region call is replaced by the region's nodes, with the weights and runtime inputs of the module that is called.
 * Weights that are one object (tied, lent) become one slot. The result holds ops only.
 */
export function inlineRegions({ root, graph }: CapturedModel): Graph {
  const inliner = new Inliner(root, graph);
  const inlined = inliner.run();
  verifyGraph(inlined);
  return inlined;
}

class Inliner {
  private nextId = 0;
  private readonly weights = new Map<Parameter | Buffer, WeightSlot>();
  private readonly runtimeInputs: GraphRuntimeInput[] = [];
  private readonly nodes: OpNode[] = [];
  private readonly renamed = new Map<Value, Value>();
  private readonly root: object;
  private readonly graph: Graph;

  constructor(root: object, graph: Graph) {
    this.root = root;
    this.graph = graph;
  }

  run(): Graph {
    const { graph } = this;
    const inputs = graph.inputs.map(({ name, value }) => ({ name, value: this.define(value, '', this.renamed) }));
    this.bindWeights(graph.weights, '', this.root, this.renamed);
    this.bindRuntimeInputs(graph.runtimeInputs, '', this.renamed);
    for (const node of graph.nodes) this.add(node);
    const outputs = graph.outputs.map(({ name, value }) => ({ name, value: this.renamed.get(value)! }));
    return { inputs, weights: [...this.weights.values()], runtimeInputs: this.runtimeInputs, nodes: this.nodes, outputs };
  }

  private add(node: GraphNode): void {
    if (node.kind === 'op') this.addOp(node, '', this.renamed);
    else this.addRegion(node);
  }

  private addRegion({ path, region, inputs, outputs }: RegionNode): void {
    const values = new Map<Value, Value>();
    for (const [i, { value }] of region.graph.inputs.entries()) values.set(value, this.renamed.get(inputs[i]!)!);
    const module = follow(this.root, keysOf(path)) as object;
    this.bindWeights(region.graph.weights, path, module, values);
    this.bindRuntimeInputs(region.graph.runtimeInputs, path, values);
    for (const node of region.graph.nodes) if (node.kind === 'op') this.addOp(node, path, values);
    for (const [i, { value }] of region.graph.outputs.entries()) this.renamed.set(outputs[i]!, values.get(value)!);
  }

  private addOp(node: OpNode, prefix: string, values: Map<Value, Value>): void {
    const inputs = Object.fromEntries(
      Object.entries(node.inputs).map(([name, value]) => [name, value === null ? null : values.get(value)!]),
    );
    const outputs = node.outputs.map((value) => this.define(value, prefix, values));
    this.nodes.push({
      ...node,
      inputs,
      outputs,
      attributes: localiseAttributes(node.attributes, prefix),
      path: joinPath(prefix, node.path),
    });
  }

  private bindWeights(slots: readonly WeightSlot[], prefix: string, module: object, values: Map<Value, Value>): void {
    for (const slot of slots) {
      const source = follow(module, keysOf(slot.path)) as Parameter | Buffer;
      const known = this.weights.get(source);
      if (known !== undefined) {
        values.set(slot.value, known.value);
        continue;
      }
      const value = this.define(slot.value, prefix, values);
      this.weights.set(source, { ...slot, path: joinPath(prefix, slot.path), format: source.dtype as StorageFormat, source, value });
    }
  }

  private bindRuntimeInputs(runtimeInputs: readonly GraphRuntimeInput[], prefix: string, values: Map<Value, Value>): void {
    for (const { path, kind, value } of runtimeInputs)
      this.runtimeInputs.push({ path: joinPath(prefix, path), kind, value: this.define(value, prefix, values) });
  }

  private define(value: Value, prefix: string, values: Map<Value, Value>): Value {
    const copy: Value = { id: this.nextId++, dtype: value.dtype, dims: localise(value.dims, prefix) };
    values.set(value, copy);
    return copy;
  }
}

/** Dimensions among the attributes, such as a reshape's. */
function localiseAttributes(attributes: OpNode['attributes'], prefix: string): OpNode['attributes'] {
  const localiseOne = (value: unknown): unknown => (value instanceof Dim ? localise([value], prefix)[0] : value);
  return Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [name, Array.isArray(value) ? value.map(localiseOne) : localiseOne(value)]),
  );
}
