import type { KvCacheSpec } from '@graft/core-model';
import type { Module, RuntimeBinding } from '@graft/graph';

/** Layers whose caches have the same length and row meaning. Each group binds its per-step inputs once. */
export interface KvGroup {
  readonly name: string;
  /** The cache starts over at every multiple of this position; null for never. */
  readonly chunkSize: number | null;
  readonly rows: number;
}

/** Which group each attention of the model is in, and what its runtime inputs are bound to. */
export class KvCachePlan {
  readonly groups: readonly KvGroup[];
  private readonly byPath = new Map<string, KvGroup>();

  /** @param paddingRows rows after those of a sequence, for the padding of static shapes. */
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

  /** For `Backend.compile`: `path` is that of a slot, a field of the attention. */
  bindRuntimeInput(path: string, kind: string): RuntimeBinding {
    const group = this.byPath.get(path.split('.').slice(0, -1).join('.'))!;
    return kind.startsWith('kvCache.') ? { kind: 'cache', rows: group.rows } : { kind: 'input', name: `${group.name}.${kind}` };
  }

  /** The most tokens of one run after `computed` ones: a run never crosses a chunk's boundary. */
  roomAfter(computed: number): number {
    return this.groups.reduce(
      (room, { chunkSize }) => (chunkSize === null ? room : Math.min(room, chunkSize - (computed % chunkSize))),
      Number.POSITIVE_INFINITY,
    );
  }
}

function groupOf(spec: KvCacheSpec, maxModelLength: number, paddingRows: number): KvGroup {
  if (spec.kind === 'full') return { name: 'full', chunkSize: null, rows: maxModelLength + paddingRows };
  const rows = Math.min(spec.chunkSize, maxModelLength) + paddingRows;
  return { name: `chunked-local-${spec.chunkSize}`, chunkSize: spec.chunkSize, rows };
}
