import type { LanguageModel } from '@graft/core-model';
import { CaptureCache, type CapturedModel, diffGuards, type GuardFailure, type RegionNode } from '@graft/graph';
import { captureLanguageModel } from './runner/capture-model.ts';

/** One graph of a region, and the modules that it serves. */
export interface GraphKind {
  readonly region: string;
  /** e.g. `decoder-layer#1` */
  readonly graph: string;
  readonly paths: readonly string[];
  /** The most similar earlier graph of the region, and how its first module (`a`) differs from the first one here (`b`); null for the first graph. */
  readonly unlike: { readonly graph: string; readonly differences: readonly GuardFailure[] } | null;
}

/** The kinds of modules that a model has at any shape. Captures `forward`, which reads no values, so a model without weights suffices. */
export function graphKinds(model: LanguageModel): GraphKind[] {
  const cache = new CaptureCache();
  const captured = captureLanguageModel(model, cache);
  const nodes = captured.graph.nodes.filter((node): node is RegionNode => node.kind === 'region');
  return cache.regions().flatMap((region) => {
    const found: GraphKind[] = [];
    for (const entry of cache.list(region)) {
      const paths = nodes.filter((node) => node.region === entry.region).map(({ path }) => path);
      found.push({ region, graph: entry.region.name, paths, unlike: nearest(captured, found, paths[0]!) });
    }
    return found;
  });
}

function nearest(captured: CapturedModel, kinds: readonly GraphKind[], path: string): GraphKind['unlike'] {
  const candidates = kinds.map(({ graph, paths }) => ({ graph, differences: diffGuards(captured, paths[0]!, path) }));
  return candidates.sort((a, b) => a.differences.length - b.differences.length)[0] ?? null;
}

/** Each kind with its layers, and below it how they differ from the most similar earlier kind. */
export function graphKindLines(kinds: readonly GraphKind[]): string[] {
  return kinds.flatMap(({ graph, paths, unlike }) => {
    const places = `${graph} serves ${placesOf(paths)}`;
    if (unlike === null) return [places];
    return [
      `${places}; unlike ${unlike.graph}:`,
      ...unlike.differences.map(({ path, expected, actual }) => `  ${path} is ${actual}, not ${expected}`),
    ];
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

/** `[0, 2, 3, 4]` -> `0, 2-4`; `[1, 5, 9, 13, 17]` -> `1, 5, ..., 17` */
function rangesOf(numbers: readonly number[]): string {
  const [first = 0, second = 0] = numbers;
  const step = second - first;
  if (numbers.length > 4 && step > 1 && numbers.every((number, i) => number === first + i * step))
    return `${first}, ${second}, ..., ${numbers.at(-1)}`;
  const ranges: [number, number][] = [];
  for (const number of numbers) {
    const last = ranges.at(-1);
    if (last !== undefined && number === last[1] + 1) last[1] = number;
    else ranges.push([number, number]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');
}
