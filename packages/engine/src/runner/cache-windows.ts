import type { CacheMove, Program } from '@graft/graph';
import { firstPosition, type KvCachePlan } from '../kv-cache.ts';

/** Moves the rows of each window to the start of their cache when a sequence begins another chunk. Knows what each slot holds, so that a run may be repeated. */
export class CacheWindows {
  private readonly plan: KvCachePlan;
  /** By group and slot: the position of the cache's first row. */
  private readonly firstPositions = new Map<string, number>();

  constructor(plan: KvCachePlan) {
    this.plan = plan;
  }

  /** To be called before a run of `rows`, the first of which is in slot `firstSlot`. */
  advance(program: Pick<Program, 'moveCacheRows'>, firstSlot: number, rows: readonly { readonly computed: number }[]): void {
    const moves: CacheMove[] = [];
    for (const group of this.plan.groups.filter(({ keptRows }) => keptRows > 0))
      for (const [i, { computed }] of rows.entries()) {
        const slot = firstSlot + i;
        const key = `${group.name} ${slot}`;
        const before = computed === 0 ? 0 : (this.firstPositions.get(key) ?? 0);
        const first = firstPosition(group, computed);
        this.firstPositions.set(key, first);
        if (first <= before || computed - before > group.rows) continue; // in place, or what a warm-up pretends to have
        for (const path of this.plan.cachesOf(group)) moves.push({ path, slot, from: first - before, count: computed - first });
      }
    if (moves.length > 0) program.moveCacheRows!(moves);
  }
}
