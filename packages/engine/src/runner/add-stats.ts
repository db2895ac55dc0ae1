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

/** The counts of two runners in succession; the warm-up is the later one's. */
export function addStats(before: RunnerStats, { recentRecompiles, warmUpSeconds, ...counts }: RunnerStats): RunnerStats {
  const sums = Object.entries(counts).map(([key, count]) => [key, count + before[key as keyof typeof counts]]);
  const recent = latest(before.recentRecompiles, recentRecompiles);
  return { ...(Object.fromEntries(sums) as typeof counts), recentRecompiles: recent, warmUpSeconds };
}
