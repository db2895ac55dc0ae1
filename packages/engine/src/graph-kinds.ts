import type { LanguageModel } from '@graft/core-model';
import { CaptureCache, diffGuards, type GuardDifference, type RegionNode } from '@graft/graph';
import { captureLanguageModel } from './runner/capture-language-model.ts';

/** One graph of a region, and the modules that it serves. */
export interface GraphKind {
  readonly region: string;
  /** e.g. `decoder-layer#1` */
  readonly graph: string;
  readonly paths: readonly string[];
  /** In what its first module differs from that of the region's first graph; empty for that one. */
  readonly differences: readonly GuardDifference[];
}

/** The kinds of modules that a model has at any shape. Captures `forward`, which reads no values, so a model without weights will do. */
export function graphKinds(model: LanguageModel): GraphKind[] {
  const cache = new CaptureCache();
  const captured = captureLanguageModel(model, cache);
  const nodes = captured.graph.nodes.filter((node): node is RegionNode => node.kind === 'region');
  return cache.regions().flatMap((region) => {
    const kinds = cache.list(region).map((entry) => ({
      graph: entry.region.name,
      paths: nodes.filter((node) => node.region === entry.region).map(({ path }) => path),
    }));
    const first = kinds[0]?.paths[0];
    return kinds.map(({ graph, paths: [path, ...others] }, i): GraphKind => {
      const differences = i === 0 || first === undefined || path === undefined ? [] : diffGuards(captured, first, path);
      return { region, graph, paths: path === undefined ? [] : [path, ...others], differences };
    });
  });
}

/** A line for each kind: which layers, and in what the first of them differs. */
export function graphKindLines(kinds: readonly GraphKind[]): string[] {
  return kinds.map(({ graph, paths, differences }) => {
    const from = differences.length === 0 ? '' : `: ${differences.map(({ path, a, b }) => `${path} ${b}, not ${a}`).join('; ')}`;
    return `${graph} serves ${placesOf(paths)}${from}`;
  });
}

/** `model.layers.0, 3-5` */
function placesOf(paths: readonly string[]): string {
  const byParent = new Map<string, number[]>();
  for (const path of paths) {
    const dot = path.lastIndexOf('.');
    const number = Number(path.slice(dot + 1));
    if (dot < 0 || !Number.isInteger(number)) byParent.set(path, []);
    else byParent.set(path.slice(0, dot), [...(byParent.get(path.slice(0, dot)) ?? []), number]);
  }
  return [...byParent].map(([parent, numbers]) => (numbers.length === 0 ? parent : `${parent}.${rangesOf(numbers)}`)).join(', ');
}

/** `[0, 2, 3, 4]` -> `0, 2-4` */
function rangesOf(numbers: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last !== undefined && number === last[1] + 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');
}
