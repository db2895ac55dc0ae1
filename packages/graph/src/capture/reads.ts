import { joinPath } from '../nn/module.ts';
import type { CapturedModel } from './capture.ts';
import { follow, type Guard, keysOf } from './guard.ts';

/** Something that a captured model's graphs depend on. */
export interface Read {
  /** In the whole model, e.g. `model.layers.3.self_attn.attn`. */
  readonly path: string;
  /** The object that was read, not a Proxy of it. */
  readonly object: object;
  /** The property that was read; null for the object's class. */
  readonly key: string | number | symbol | null;
}

/**
 * The reads of `forward`, and of all that it called, in the model's objects: each property, and each object's class. A region's reads stand for every
 * module that its graph serves. The result follows the model as it is now, so call this before the next patch. For an accessor it lists the properties
 * that the accessor read.
 */
export function readsOf({ root, graph, guards, cache }: CapturedModel): Read[] {
  const entries = new Map(cache.regions().flatMap((region) => cache.list(region).map((entry) => [entry.region, entry.guards])));
  const outer = guards.flatMap((guard) => readsOfGuard(guard, root, ''));
  const inner = graph.nodes.flatMap((node) => {
    if (node.kind === 'op') return [];
    const module = follow(root, keysOf(node.path)) as object;
    return entries.get(node.region)!.flatMap((guard) => readsOfGuard(guard, module, node.path));
  });
  return [...outer, ...inner];
}

function readsOfGuard({ kind, keys, path }: Guard, module: object, prefix: string): Read[] {
  const full = joinPath(prefix, path);
  const reads: Read[] = [];
  const host = keys.length === 0 ? null : follow(module, keys.slice(0, -1));
  if (typeof host === 'object' && host !== null) reads.push({ path: full, object: host, key: keys.at(-1)! });
  const object = kind === 'class' ? follow(module, keys) : null;
  if (typeof object === 'object' && object !== null) reads.push({ path: full, object, key: null });
  return reads;
}
