import type { KvCacheSpec } from '@graft/core-model';
import { type Module, type RuntimeBinding, RuntimeInput } from '@graft/graph';

/** Layers whose caches have the same length and the same meaning of rows. A group binds its per-step inputs once. */
export interface KvGroup {
  readonly name: string;
  /** The cache starts again at every multiple of this position; null: never. */
  readonly chunkSize: number | null;
  /** Rows before the chunk that the cache begins with: a window's, which the chunk's first queries still read. */
  readonly keptRows: number;
  readonly rows: number;
}

/** The position of a cache's first row while the tokens after `computed` ones run. */
export function firstPosition({ chunkSize, keptRows }: KvGroup, computed: number): number {
  return chunkSize === null ? 0 : Math.max(0, computed - (computed % chunkSize) - keptRows);
}

export interface KvCacheOptions {
  /** Rows after those of a sequence, for padding to static shapes. */
  paddingRows?: number;
  /** The least tokens after which a window's rows move to the start of their cache; null where the program cannot move rows, so that caches hold all. */
  windowChunk?: number | null;
}

/** The group of each attention of the model, and the bindings of its runtime inputs. */
export class KvCachePlan {
  readonly groups: readonly KvGroup[];
  private readonly byPath = new Map<string, KvGroup>();
  private readonly caches = new Map<KvGroup, string[]>();

  constructor(model: Module, maxModelLength: number, options: KvCacheOptions = {}) {
    const groups = new Map<string, KvGroup>();
    for (const [path, module] of model.namedModules()) {
      if (!('getKvCacheSpec' in module && typeof module.getKvCacheSpec === 'function')) continue;
      const made = groupOf(module.getKvCacheSpec(), maxModelLength, options);
      const group = groups.get(made.name) ?? made;
      groups.set(group.name, group);
      this.byPath.set(path, group);
      const fields = Object.entries(module).filter(([, field]) => field instanceof RuntimeInput && field.kind.startsWith('kvCache.'));
      this.caches.set(group, [...this.cachesOf(group), ...fields.map(([name]) => `${path}.${name}`)]);
    }
    this.groups = [...groups.values()];
  }

  /** For `Backend.compile`. @param path of the runtime input, a field of the attention. */
  bindRuntimeInput(path: string, kind: string): RuntimeBinding {
    const group = this.byPath.get(path.split('.').slice(0, -1).join('.'))!;
    return kind.startsWith('kvCache.') ? { kind: 'cache', rows: group.rows } : { kind: 'input', name: `${group.name}.${kind}` };
  }

  /** The paths of a group's caches. */
  cachesOf(group: KvGroup): readonly string[] {
    return this.caches.get(group) ?? [];
  }

  /** The most tokens that a run may add after `computed` ones: no run crosses the boundary of a chunk. */
  roomAfter(computed: number): number {
    return this.groups.reduce(
      (room, { chunkSize }) => (chunkSize === null ? room : Math.min(room, chunkSize - (computed % chunkSize))),
      Number.POSITIVE_INFINITY,
    );
  }
}

function groupOf(spec: KvCacheSpec, maxModelLength: number, { paddingRows = 0, windowChunk = null }: KvCacheOptions): KvGroup {
  if (spec.kind === 'chunked-local') {
    const rows = Math.min(spec.chunkSize, maxModelLength) + paddingRows;
    return { name: `chunked-local-${spec.chunkSize}`, chunkSize: spec.chunkSize, keptRows: 0, rows };
  }
  if (spec.kind === 'sliding-window' && windowChunk !== null) {
    const keptRows = spec.windowSize - 1;
    const chunkSize = Math.max(windowChunk, Math.ceil(spec.windowSize / 4)); // a token's share of the moves is four rows at most
    const rows = keptRows + chunkSize;
    if (rows < maxModelLength) return { name: `sliding-window-${spec.windowSize}`, chunkSize, keptRows, rows: rows + paddingRows };
  }
  return { name: 'full', chunkSize: null, keptRows: 0, rows: maxModelLength + paddingRows };
}
