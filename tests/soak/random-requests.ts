import type { LlmEngine } from '@graft/engine';

/** A prompt of random tokens, and how many are to follow. */
export interface RandomRequest {
  readonly tokenIds: readonly number[];
  readonly maxTokens: number;
}

/** Whole numbers below what is asked for, the same for the same seed. */
export type Random = (below: number) => number;

/** A linear congruential generator, of which the high bits are taken (Knuth's MMIX). */
export function random(seed: number): Random {
  let state = BigInt(seed);
  return (below) => {
    state = (state * 6364136223846793005n + 1442695040888963407n) & 0xffffffffffffffffn;
    return Number((state >> 33n) % BigInt(below));
  };
}

const vocabSize = 320; // of the tiny reference models

/** Requests of 1 to 8 tokens out, and of any prompt that `maxModelLength` leaves room for. */
export function randomRequests(next: Random, count: number, maxModelLength: number): RandomRequest[] {
  return Array.from({ length: count }, () => {
    const maxTokens = 1 + next(8);
    const length = 1 + next(maxModelLength - maxTokens);
    return { tokenIds: Array.from({ length }, () => next(vocabSize)), maxTokens };
  });
}

/** Greedy ids of one request, always `maxTokens` of them. */
export async function idsOf(engine: LlmEngine, { tokenIds, maxTokens }: RandomRequest): Promise<number[]> {
  const ids: number[] = [];
  const request = { prompt: { tokenIds: [...tokenIds] }, sampling: { temperature: 0, ignoreEos: true, maxTokens } };
  for await (const delta of engine.generate(request)) ids.push(...delta.tokenIds);
  return ids;
}

/**
 * Runs requests, `atOnce` of them at a time, until there are no more or it is late: then results are fewer.
 * @param until on the clock of `performance.now`.
 */
export async function runAll(
  engine: LlmEngine,
  requests: readonly RandomRequest[],
  { atOnce, until = Number.POSITIVE_INFINITY }: { atOnce: number; until?: number },
): Promise<number[][]> {
  const results: number[][] = [];
  let next = 0;
  const one = async (): Promise<void> => {
    while (next < requests.length && performance.now() < until) {
      const index = next++;
      results[index] = await idsOf(engine, requests[index]!);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, one));
  return results;
}
