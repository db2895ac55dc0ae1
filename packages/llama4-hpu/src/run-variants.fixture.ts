import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LlmEngine } from '@graft/engine';
import { expect } from 'vitest';

/** The reference cases of text; their weights are random. */
export const textCases = ['dense-tiny', 'heads10-tiny', 'llama3rope-tiny', 'maverick-tiny', 'nochunk-tiny', 'scout-tiny', 'top2-tiny'];

export const caseFolder = (name: string): string => fileURLToPath(new URL(`../../../tests/parity/cases/${name}`, import.meta.url));

interface Run {
  modelClass: string;
  logits: number[];
  /** The residual streams that enter layers 0, 1 and 2. */
  states: number[];
  greedy: number[];
}

/**
 * A case on upstream, and on the overrides without and with branch-free attention. `plugin` brings the platforms `plain` and `hpu`.
 * @param options `alsoLast`: after a run with the logits of each token of the prompt, one with those of its last token, whose pieces then run as they are.
 */
export async function runVariants(
  name: string,
  plugin: string,
  { alsoLast = false }: { alsoLast?: boolean } = {},
): Promise<Record<'upstream' | 'equivalent' | 'default', Run>> {
  return {
    upstream: await runCase({ name, plugin, platform: 'plain', overrideOptions: {}, alsoLast }),
    equivalent: await runCase({ name, plugin, platform: 'hpu', overrideOptions: { branchFree: false }, alsoLast }),
    default: await runCase({ name, plugin, platform: 'hpu', overrideOptions: {}, alsoLast }),
  };
}

/** @param unit what 1e-5 is of: 1, or the largest value of a case where its sums are rounded in another order. */
export function expectAlike(runs: Record<'upstream' | 'equivalent' | 'default', Run>, unit: 'one' | 'largest' = 'one'): void {
  const { upstream } = runs;
  expect(Object.values(runs).map(({ modelClass }) => modelClass)).toEqual([
    'Llama4ForCausalLM',
    'HpuLlama4ForCausalLM',
    'HpuLlama4ForCausalLM',
  ]);
  for (const run of [runs.equivalent, runs.default]) {
    expect(run.greedy).toEqual(upstream.greedy);
    for (const what of ['logits', 'states'] as const) {
      expect(run[what]).toHaveLength(upstream[what].length);
      expect(largestDifference(run[what], upstream[what]), what).toBeLessThanOrEqual(1e-5 * (unit === 'one' ? 1 : largest(upstream[what])));
    }
  }
}

/** 20 tokens of prompt in pieces of 7, over the chunk's boundary at 16, then 6 forced ones, each a step of batch 1 x sequence 1. In float32. */
async function runCase({
  name,
  plugin,
  platform,
  overrideOptions,
  alsoLast,
}: {
  name: string;
  plugin: string;
  platform: string;
  overrideOptions: Record<string, unknown>;
  alsoLast: boolean;
}): Promise<Run> {
  const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-hpu-'));
  const engine = await LlmEngine.start({
    model: caseFolder(name),
    plugins: [plugin],
    platform,
    overrideOptions,
    weights: 'float32',
    maxModelLength: 32,
    prefillTokens: 7,
    cacheDirectory,
    auxHiddenStateLayers: [0, 1, 2],
  });
  const logits: number[] = [];
  const states: number[] = [];
  const greedy: number[] = [];
  try {
    const prompt = { tokenIds: Array.from({ length: 20 }, (_, i) => (37 * i + 11) % 320) };
    const sampling = { temperature: 0, ignoreEos: true, maxTokens: 6 };
    const observer = {
      forcedTokenIds: [5, 80, 200, 13, 319, 1],
      onLogits: (_position: number, row: Float32Array) => {
        logits.push(...row);
        greedy.push(row.indexOf(Math.max(...row)));
      },
      onAuxHiddenStates: (_start: number, _count: number, streams: readonly Float32Array[]) => {
        for (const stream of streams) states.push(...stream);
      },
    };
    for (const promptLogits of alsoLast ? [true, false] : [true]) {
      for await (const _ of engine.generate({ prompt, sampling }, { observer: { ...observer, promptLogits } })) {
        // The observer takes what is compared.
      }
    }
    return { modelClass: engine.info.modelClass, logits, states, greedy };
  } finally {
    await engine.close();
    rmSync(cacheDirectory, { recursive: true });
  }
}

function largest(values: readonly number[]): number {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 1);
}

function largestDifference(a: readonly number[], b: readonly number[]): number {
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0);
}
