import type { EventBus } from '@graft/common';
import type { CaptureCache, RecompileRecord } from '@graft/graph';
import type { EngineEvents, Recompile } from '../engine.ts';
import type { RunnerParts } from './model-runner.ts';

/** The most recompiles that `/health` lists. */
const mostKept = 50;

/** The graphs that a runner made while requests waited. */
export class Recompiles {
  count = 0;
  /** The latest ones, oldest first. */
  recent: readonly Recompile[] = [];
  /** Null: recompiles are counted and listed, but not reported. */
  private readonly events: EventBus<EngineEvents> | null;

  constructor({ events, config }: Pick<RunnerParts, 'events' | 'config'>) {
    this.events = config.onRecompile === 'warn' ? (events ?? null) : null;
  }

  /** @param start when requests began to wait, by `performance.now()`. */
  add({ region, path, failures }: RecompileRecord, start: number): void {
    const guards = failures.map(({ path: guard, expected, actual }) => ({ guard, expected, actual }));
    const recompile = { at: new Date().toISOString(), region, path, failures: guards, stallMs: Math.round(performance.now() - start) };
    this.count++;
    this.recent = latest(this.recent, [recompile]);
    this.events?.emit('graph:recompile', recompile);
  }

  /** Adds each recompile of a cache from now on. Its stall is the time of the capture. */
  watch(cache: CaptureCache): void {
    const waiting = new Map<string, { record: RecompileRecord; start: number }>();
    const keyOf = ({ region, path }: { region: string; path: string }): string => `${region} ${path}`;
    cache.events.on('graph:recompile', (record) => void waiting.set(keyOf(record), { record, start: performance.now() }));
    cache.events.on('graph:capture', (captured) => {
      const recompile = waiting.get(keyOf(captured));
      waiting.delete(keyOf(captured));
      if (recompile !== undefined) this.add(recompile.record, recompile.start);
    });
  }
}

export function latest(before: readonly Recompile[], now: readonly Recompile[]): readonly Recompile[] {
  return [...before, ...now].slice(-mostKept);
}
