import type { CapturedRegion, Graph, RegionNode } from '../graph.ts';
import { DimChange, GraphCopy } from '../graph-copy.ts';
import type { Module, Region } from '../nn/module.ts';
import type { CapturedModel } from './capture.ts';
import type { CaptureCache, CaptureEntry, InputFact } from './capture-cache.ts';
import { inputFacts } from './input-facts.ts';
import type { Flat, Structure } from './pytree.ts';

/** One call of a region in a capture. Lists are in the order of the graph's region nodes. */
export interface CalledRegion {
  readonly module: Module;
  readonly path: string;
  readonly region: Region;
  readonly args: readonly Flat[];
  readonly entry: CaptureEntry;
}

/** A capture for any size, whose `forward` asked for no size. With numbers for its symbols, it equals a capture at these numbers. */
export interface Template {
  readonly captured: CapturedModel;
  readonly calls: readonly CalledRegion[];
}

/**
 * The template with numbers for its symbols. Its regions are looked up in `cache` and added to it, call by call, as a capture does. So the graphs, their
 * sharing (also where two symbols have one number), names, events and recompile records are those of a capture.
 */
export function specialise({ captured, calls }: Template, sizes: ReadonlyMap<string, number>, cache: CaptureCache): CapturedModel {
  const sized = new DimChange((dim) => dim.withSizes(sizes));
  const facts = new Map<CaptureEntry, InputFact[]>(); // calls of one entry have the same
  const regionOf = ({ module, path, region, args, entry }: CalledRegion): CapturedRegion => {
    const inputs = facts.get(entry) ?? inputFacts(region, args, (dims) => sized.dims(dims));
    facts.set(entry, inputs);
    return cache.entryFor({ region: region.name, path, module, inputs }, (name) => specialiseEntry(entry, name, inputs, sized)).region;
  };
  let next = 0;
  const graph = copyGraph(captured.graph, sized, () => regionOf(calls[next++]!));
  return { ...captured, graph, outputs: changeLeaves(captured.outputs, sized), cache };
}

/** Makes the graph itself on first use: a forecast only counts. */
function specialiseEntry(entry: CaptureEntry, name: string, inputs: readonly InputFact[], sized: DimChange): CaptureEntry {
  let made: Graph | null = null;
  const region = {
    name,
    get graph(): Graph {
      made ??= copyGraph(entry.region.graph, sized, ({ region }) => region);
      return made;
    },
  };
  return { region, guards: entry.guards, inputs, outputs: changeLeaves(entry.outputs, sized) };
}

/** The structure with the change made in its leaves. */
function changeLeaves(structure: Structure, sized: DimChange): Structure {
  switch (structure.kind) {
    case 'tensor':
      return structure;
    case 'list':
      return { kind: 'list', items: structure.items.map((item) => changeLeaves(item, sized)) };
    case 'record':
      return { ...structure, entries: structure.entries.map(([key, item]) => [key, changeLeaves(item, sized)]) };
    case 'leaf':
      return { kind: 'leaf', value: sized.plain(structure.value) };
  }
}

/** The same graph with new values. `regionOf` is asked for each region in the order of the nodes. */
function copyGraph(graph: Graph, sized: DimChange, regionOf: (node: RegionNode) => CapturedRegion): Graph {
  const copy = new GraphCopy(sized, ({ id }) => id);
  return {
    inputs: copy.defineAll(graph.inputs),
    weights: copy.defineAll(graph.weights),
    runtimeInputs: copy.defineAll(graph.runtimeInputs),
    nodes: graph.nodes.map((node) =>
      node.kind === 'op'
        ? copy.op(node)
        : { ...node, region: regionOf(node), inputs: node.inputs.map(copy.used), outputs: node.outputs.map(copy.define) },
    ),
    outputs: graph.outputs.map(({ name, value }) => ({ name, value: copy.used(value) })),
  };
}
