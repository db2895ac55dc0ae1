import { RegionNotFoundError } from '../errors.ts';
import type { Graph, RegionNode } from '../graph.ts';
import type { Module } from '../nn/module.ts';
import type { CapturedModel } from './capture.ts';
import { type CaptureEntry, inputFailures } from './capture-cache.ts';
import { checkGuard, follow, type GuardFailure, keysOf } from './guard.ts';

/**
 * Why two modules of one region need two graphs: every argument and guard in which they differ, among those that either `forward` reads. Places below
 * such a place are left out. Empty when the two share a graph. Reads the modules as they are now, and runs nothing.
 * @param a the path of one module, such as `model.layers.3`. `expected` describes it, `actual` describes `b`.
 * @throws RegionNotFoundError when a path is not a call of a region, or the two regions differ.
 */
export function diffGuards(captured: CapturedModel, a: string, b: string): GuardFailure[] {
  const [first, second] = [regionAt(captured, a), regionAt(captured, b)];
  if (first.region !== second.region) {
    const what = `"${a}" is a region "${first.region}" and "${b}" is a region "${second.region}". Their guards cannot be compared.`;
    throw new RegionNotFoundError(what, b, regionPaths(captured.graph));
  }
  const inputs = inputFailures(first.entry.inputs, second.entry.inputs);
  const forward = brokenBy(first.entry, second.module);
  // Read by the second alone: the first took another branch, or has nothing there.
  const backward = brokenBy(second.entry, first.module).map((failure) => ({
    ...failure,
    expected: failure.actual,
    actual: failure.expected,
  }));
  return outermost([...forward, ...backward], inputs);
}

/** Leaves out differences below a place that differs itself. */
function outermost(failures: readonly GuardFailure[], inputs: readonly GuardFailure[]): GuardFailure[] {
  const paths = new Set(failures.map(({ path }) => path));
  const follows = (path: string): boolean =>
    path.split('.').some((_, depth, names) => depth > 0 && paths.has(names.slice(0, depth).join('.')));
  const first = new Map<string, GuardFailure>();
  for (const failure of failures) if (!first.has(failure.path)) first.set(failure.path, failure);
  return [...inputs, ...[...first.values()].filter(({ path }) => !follows(path))];
}

/** @throws RegionNotFoundError */
function regionAt({ graph, root, cache }: CapturedModel, path: string): { region: string; entry: CaptureEntry; module: object } {
  const node = graph.nodes.find((candidate): candidate is RegionNode => candidate.kind === 'region' && candidate.path === path);
  const module = node && (follow(root, keysOf(path)) as Module);
  const region = (module?.constructor as typeof Module | undefined)?.region?.name;
  const entry = region === undefined ? undefined : cache.list(region).find((candidate) => candidate.region === node?.region);
  if (module === undefined || region === undefined || entry === undefined) {
    throw new RegionNotFoundError(`"${path}" is not a region of the captured model.`, path, regionPaths(graph));
  }
  return { region, entry, module };
}

function regionPaths({ nodes }: Graph): string[] {
  return nodes.flatMap((node) => (node.kind === 'region' ? [node.path] : []));
}

function brokenBy({ guards }: CaptureEntry, module: object): GuardFailure[] {
  return guards.map((guard) => checkGuard(guard, module)).filter((failure) => failure !== null);
}
