import type { CapturedModel } from '../capture/capture.ts';
import { weightAt } from '../capture/guard.ts';
import type { CapturedRegion, Graph, GraphInput, GraphRuntimeInput, OpNode, RegionNode, Value, WeightSlot } from '../graph.ts';
import { joinPath } from '../nn/module.ts';
import { Dim, formatDims } from '../shape.ts';
import { verifyGraph } from '../verify-graph.ts';

/** A weight that one call reads, under its path in the whole model. */
export type CallWeight = Pick<WeightSlot, 'path' | 'source'>;

/** A runtime input that one call reads or writes, under its path in the whole model. */
export type CallRuntimeInput = Pick<GraphRuntimeInput, 'path' | 'kind'>;

/** One call of a region's graph. Lists are in the order of the graph's own lists. */
export interface RegionCall {
  /** The same object for all calls that can share what is compiled for it. */
  readonly region: CapturedRegion;
  /** The module that is called; empty for a segment. */
  readonly path: string;
  readonly weights: readonly CallWeight[];
  readonly runtimeInputs: readonly CallRuntimeInput[];
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
}

/** A model as a sequence of region calls. Values are those of the captured graph. */
export interface RegionPlan {
  readonly inputs: readonly GraphInput[];
  readonly calls: readonly RegionCall[];
  /** Each value is an output of a call. */
  readonly outputs: readonly GraphInput[];
}

/**
 * The first step of regional compilation: the outer graph as a list of calls. The ops between two regions become a *segment*, a region too. Segments that
 * differ only in their weights are one region.
 */
export function planRegions(captured: CapturedModel): RegionPlan {
  return new RegionPlanner(captured).run();
}

class RegionPlanner {
  private readonly root: object;
  private readonly graph: Graph;
  private readonly calls: RegionCall[] = [];
  private readonly segments = new Map<string, CapturedRegion>();
  private readonly weights: ReadonlyMap<Value, WeightSlot>;
  private readonly runtimeInputs: ReadonlyMap<Value, GraphRuntimeInput>;
  /** For each value, the index of the last node that reads it. The graph's outputs count as one more node. */
  private readonly lastUse = new Map<Value, number>();

  constructor({ root, graph }: CapturedModel) {
    this.root = root;
    this.graph = graph;
    this.weights = new Map(graph.weights.map((weight) => [weight.value, weight]));
    this.runtimeInputs = new Map(graph.runtimeInputs.map((input) => [input.value, input]));
    for (const [i, node] of graph.nodes.entries())
      for (const value of Object.values(node.inputs)) if (value !== null) this.lastUse.set(value as Value, i);
    for (const { value } of graph.outputs) this.lastUse.set(value, graph.nodes.length);
  }

  run(): RegionPlan {
    const { nodes, inputs } = this.graph;
    let pending: OpNode[] = [];
    for (const [i, node] of nodes.entries()) {
      if (node.kind === 'op') pending.push(node);
      else {
        this.addSegment(pending, i);
        pending = [];
        this.addRegion(node, i);
      }
    }
    const made = new Set<Value>(nodes.flatMap(({ outputs }) => outputs));
    const given = this.graph.outputs.map(({ value }) => value).filter((value) => !made.has(value));
    const outputs = this.addSegment(pending, nodes.length, [...new Set(given)]);
    return {
      inputs,
      calls: this.calls,
      outputs: this.graph.outputs.map(({ name, value }) => ({ name, value: outputs.get(value) ?? value })),
    };
  }

  /** A weight or runtime input that is an argument of a region is read by an extra segment, which passes it on. */
  private addRegion({ path, region, inputs, outputs }: RegionNode, index: number): void {
    const given = [...new Set(inputs.filter((value) => this.weights.has(value) || this.runtimeInputs.has(value)))];
    const passed = this.addSegment([], index, given);
    const weights = region.graph.weights.map((slot) => joinPath(path, slot.path));
    this.calls.push({
      region,
      path,
      weights: weights.map((at) => ({ path: at, source: weightAt(this.root, at) })),
      runtimeInputs: region.graph.runtimeInputs.map(({ path: own, kind }) => ({ path: joinPath(path, own), kind })),
      inputs: inputs.map((value) => passed.get(value) ?? value),
      outputs,
    });
  }

  /**
   * Adds a call of these nodes, which come before node `end`.
   * @param given values that no node makes and that the call passes on. @returns the values that replace them.
   */
  private addSegment(nodes: readonly OpNode[], end: number, given: readonly Value[] = []): ReadonlyMap<Value, Value> {
    const passed = new Map(given.map((value) => [value, { ...value }]));
    if (nodes.length === 0 && given.length === 0) return passed;
    const made = new Set(nodes.flatMap(({ outputs }) => outputs));
    const read = new Set([...nodes.flatMap(({ inputs }) => Object.values(inputs)), ...given].filter((value) => value !== null));
    const weights = [...read].flatMap((value) => this.weights.get(value) ?? []);
    const runtimeInputs = [...read].flatMap((value) => this.runtimeInputs.get(value) ?? []);
    const inputs = [...read].filter((value) => !made.has(value) && !this.weights.has(value) && !this.runtimeInputs.has(value));
    const kept = [...made].filter((value) => (this.lastUse.get(value) ?? -1) >= end);
    const named = (prefix: string, values: readonly Value[]): GraphInput[] => values.map((value, i) => ({ name: `${prefix}${i}`, value }));
    const graph = { inputs: named('x', inputs), weights, runtimeInputs, nodes, outputs: named('y', [...kept, ...given]) };
    this.calls.push({
      region: this.segment(graph),
      path: '',
      weights: weights.map(({ path, source }) => ({ path, source })),
      runtimeInputs: runtimeInputs.map(({ path, kind }) => ({ path, kind })),
      inputs,
      outputs: [...kept, ...passed.values()],
    });
    return passed;
  }

  private segment(graph: Graph): CapturedRegion {
    const identity = identityOf(graph);
    const known = this.segments.get(identity);
    if (known !== undefined) return known;
    verifyGraph(graph);
    const region = { name: `segment#${this.segments.size}`, graph };
    this.segments.set(identity, region);
    return region;
  }
}

/** Everything that a compiled graph depends on: ops, attributes, types and edges. Names of weights and modules are left out. */
function identityOf({ inputs, weights, runtimeInputs, nodes, outputs }: Graph): string {
  const numbers = new Map<Value, number>();
  const define = (value: Value): string => {
    numbers.set(value, numbers.size);
    return `${value.dtype}${formatDims(value.dims)}`;
  };
  return JSON.stringify([
    inputs.map(({ value }) => define(value)),
    weights.map(({ value, format }) => [define(value), format]),
    runtimeInputs.map(({ value, kind }) => [define(value), kind]),
    nodes.map((node) => [
      (node as OpNode).op.name,
      Object.entries(node.inputs).map(([name, value]) => [name, value === null ? null : numbers.get(value as Value)]),
      attributesText((node as OpNode).attributes),
      node.outputs.map(define),
    ]),
    outputs.map(({ value }) => numbers.get(value)),
  ]);
}

function attributesText(attributes: OpNode['attributes']): string {
  return JSON.stringify(attributes, (_key, value: unknown) => (value instanceof Dim ? `dim ${value.toString()}` : value));
}
