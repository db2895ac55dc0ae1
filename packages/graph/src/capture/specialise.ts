import type { CapturedRegion, Graph, GraphNode, OpNode, RegionNode, Value } from '../graph.ts';
import type { Module, Region } from '../nn/module.ts';
import { Dim, type Dims } from '../shape.ts';
import type { CapturedModel } from './capture.ts';
import type { CaptureCache, CaptureEntry, InputFact } from './capture-cache.ts';
import { inputFacts } from './input-facts.ts';
import type { Flat, Structure } from './pytree.ts';

/** A call of a region as a capture met it, in the order of the graph's region nodes. */
export interface CalledRegion {
  readonly module: Module;
  readonly path: string;
  readonly region: Region;
  readonly args: readonly Flat[];
  readonly entry: CaptureEntry;
}

/** A capture for any size whose `forward` asked for none: with numbers for symbols it is what a capture at these numbers leaves behind. */
export interface Template {
  readonly captured: CapturedModel;
  readonly calls: readonly CalledRegion[];
}

/**
 * The template with numbers in the place of symbols. Its regions are looked up in `cache` as a capture looks them up, call by call, and added as a capture
 * adds them: which graphs there are, which are shared (also where two symbols have one number), their names, events and recompile records are the same.
 */
export function specialise({ captured, calls }: Template, sizes: ReadonlyMap<string, number>, cache: CaptureCache): CapturedModel {
  const sized = new Sized(sizes);
  const facts = new Map<CaptureEntry, InputFact[]>(); // calls of one entry have the same
  const regionOf = ({ module, path, region, args, entry }: CalledRegion): CapturedRegion => {
    const inputs = facts.get(entry) ?? inputFacts(region, args, (dims) => sized.dims(dims));
    facts.set(entry, inputs);
    const found = cache.lookup(region.name, path, module, inputs);
    return ('guards' in found ? found : cache.add(found, (name) => specialiseEntry(entry, name, inputs, sized))).region;
  };
  let next = 0;
  const graph = copyGraph(captured.graph, sized, () => regionOf(calls[next++]!));
  return { ...captured, graph, outputs: sized.structure(captured.outputs), cache };
}

/** The graph itself is made when it is asked for: a forecast only counts. */
function specialiseEntry(entry: CaptureEntry, name: string, inputs: readonly InputFact[], sized: Sized): CaptureEntry {
  let made: Graph | null = null;
  const region = {
    name,
    get graph(): Graph {
      made ??= copyGraph(entry.region.graph, sized, ({ region }) => region);
      return made;
    },
  };
  return { region, guards: entry.guards, inputs, outputs: sized.structure(entry.outputs) };
}

/** Numbers for symbols, in all that holds dimensions. */
class Sized {
  private readonly sizes: ReadonlyMap<string, number>;
  /** Values of one shape share their list of dimensions, as most of a graph do. */
  private readonly known = new Map<Dims, Dims>();

  constructor(sizes: ReadonlyMap<string, number>) {
    this.sizes = sizes;
  }

  dims(dims: Dims): Dims {
    const known = this.known.get(dims);
    if (known !== undefined) return known;
    const sized = dims.map((dim) => dim.withSizes(this.sizes));
    this.known.set(dims, sized);
    return sized;
  }

  attributes(attributes: OpNode['attributes']): OpNode['attributes'] {
    return this.plain(attributes) as OpNode['attributes'];
  }

  structure(structure: Structure): Structure {
    switch (structure.kind) {
      case 'tensor':
        return structure;
      case 'list':
        return { kind: 'list', items: structure.items.map((item) => this.structure(item)) };
      case 'record':
        return { ...structure, entries: structure.entries.map(([key, item]) => [key, this.structure(item)]) };
      case 'leaf':
        return { kind: 'leaf', value: this.plain(structure.value) };
    }
  }

  private plain(value: unknown): unknown {
    if (value instanceof Dim) return value.withSizes(this.sizes);
    if (Array.isArray(value)) return value.map((item) => this.plain(item));
    if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.plain(item)]));
  }
}

/** The same graph of values of its own. `regionOf` is asked for each region in the order of the nodes. */
function copyGraph(graph: Graph, sized: Sized, regionOf: (node: RegionNode) => CapturedRegion): Graph {
  const copies = new Map<Value, Value>();
  const define = (value: Value): Value => {
    const copy = { id: value.id, dtype: value.dtype, dims: sized.dims(value.dims) };
    copies.set(value, copy);
    return copy;
  };
  const used = (value: Value): Value => copies.get(value)!;
  const inputs = graph.inputs.map(({ name, value }) => ({ name, value: define(value) }));
  const weights = graph.weights.map((weight) => ({ ...weight, value: define(weight.value) }));
  const runtimeInputs = graph.runtimeInputs.map(({ path, kind, value }) => ({ path, kind, value: define(value) }));
  const nodes = graph.nodes.map((node): GraphNode => {
    if (node.kind === 'region') {
      const { kind, path } = node;
      return { kind, path, region: regionOf(node), inputs: node.inputs.map(used), outputs: node.outputs.map(define) };
    }
    const given: Record<string, Value | null> = {};
    for (const name of Object.keys(node.inputs)) {
      const value = node.inputs[name]!;
      given[name] = value && used(value);
    }
    const { kind, op, path } = node;
    return { kind, op, inputs: given, attributes: sized.attributes(node.attributes), outputs: node.outputs.map(define), path };
  });
  return { inputs, weights, runtimeInputs, nodes, outputs: graph.outputs.map(({ name, value }) => ({ name, value: used(value) })) };
}
