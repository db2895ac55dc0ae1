import type { RunnerStats } from './model-runner.ts';
import { latest } from './recompiles.ts';

export const noStats: RunnerStats = {
  captures: 0,
  compiles: 0,
  optimisations: 0,
  recipes: 0,
  recompiles: 0,
  recentRecompiles: [],
  warmUpSeconds: 0,
  computedTokens: 0,
  paddedTokens: 0,
};

/** What two runners did, one after the other; the warm-up is the later one's. */
export function addStats(before: RunnerStats, now: RunnerStats): RunnerStats {
  return {
    captures: before.captures + now.captures,
    compiles: before.compiles + now.compiles,
    optimisations: before.optimisations + now.optimisations,
    recipes: before.recipes + now.recipes,
    recompiles: before.recompiles + now.recompiles,
    recentRecompiles: latest(before.recentRecompiles, now.recentRecompiles),
    warmUpSeconds: now.warmUpSeconds,
    computedTokens: before.computedTokens + now.computedTokens,
    paddedTokens: before.paddedTokens + now.paddedTokens,
  };
}
