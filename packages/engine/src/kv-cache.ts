import type { KvCacheSpec } from '@graft/core-model';
import type { Module, RuntimeBinding } from '@graft/graph';

/** Layers whose caches have the same length and the same meaning of rows. A group binds its per-step inputs once. */
export interface KvGroup {
  readonly name: string;
  /** The cache starts again at every multiple of this position; null: never. */
  readonly chunkSize: number | null;
  readonly rows: number;
}

/** The group of each attention of the model, and the bindings of its runtime inputs. */
export class KvCachePlan {
  readonly groups: readonly KvGroup[];
  private readonly byPath = new Map<string, KvGroup>();

  /** @param paddingRows rows after those of a sequence, for padding to static shapes. */
  constructor(model: Module, maxModelLength: number, { paddingRows = 0 }: { paddingRows?: number } = {}) {
    const groups = new Map<string, KvGroup>();
    for (const [path, module] of model.namedModules()) {
      if (!('getKvCacheSpec' in module && typeof module.getKvCacheSpec === 'function')) continue;
      const group = groupOf(module.getKvCacheSpec(), maxModelLength, paddingRows);
      if (!groups.has(group.name)) groups.set(group.name, group);
      this.byPath.set(path, groups.get(group.name)!);
    }
    this.groups = [...groups.values()];
  }

  /** For `Backend.compile`. @param path of the runtime input, a field of the attention. */
  bindRuntimeInput(path: string, kind: string): RuntimeBinding {
    const group = this.byPath.get(path.split('.').slice(0, -1).join('.'))!;
    return kind.startsWith('kvCache.') ? { kind: 'cache', rows: group.rows } : { kind: 'input', name: `${group.name}.${kind}` };
  }

  /** The most tokens that a run may add after `computed` ones: no run crosses the boundary of a chunk. */
  roomAfter(computed: number): number {
    return this.groups.reduce(
      (room, { chunkSize }) => (chunkSize === null ? room : Math.min(room, chunkSize - (computed % chunkSize))),
      Number.POSITIVE_INFINITY,
    );
  }
}

function groupOf(spec: KvCacheSpec, maxModelLength: number, paddingRows: number): KvGroup {
  if (spec.kind !== 'chunked-local') return { name: 'full', chunkSize: null, rows: maxModelLength + paddingRows };
  const rows = Math.min(spec.chunkSize, maxModelLength) + paddingRows;
  return { name: `chunked-local-${spec.chunkSize}`, chunkSize: spec.chunkSize, rows };
}
