import {
  type Checkpoint,
  float32Policy,
  keysOfOtherRanks,
  Llama4ForCausalLM,
  loadWeights,
  type ModelContext,
  openCheckpoint,
  parseLlama4Config,
} from '@graft/core-model';
import { PipelineRunner } from '@graft/engine';
import { InterpreterBackend } from '@graft/graph';
import { expect, onTestFinished, test } from 'vitest';
import { runHooks } from './layer-graphs.fixture.ts';
import { HpuLlama4ForCausalLM } from './models/llama4.ts';
import { caseFolder } from './run-variants.fixture.ts';

const auxLayers = [0, 3, 8]; // the embedding, what enters layer 3, and what leaves the last of 8
const classes = { upstream: Llama4ForCausalLM, override: HpuLlama4ForCausalLM };
type Variant = keyof typeof classes;

async function loadRank(variant: Variant, checkpoint: Checkpoint, pipeline: { rank: number; size: number }) {
  const config = parseLlama4Config(checkpoint.config);
  const facts = { architectures: config.architectures, config, platform: 'hpu', mode: 'compile', maxModelLength: 32 };
  const context: ModelContext = { ...facts, pipeline };
  const model = new classes[variant](context);
  const load = () => loadWeights(model, checkpoint, { policy: float32Policy, cacheDirectory: null, ignoreKeys: keysOfOtherRanks(context) });
  await (variant === 'upstream' ? load() : runHooks(model, context, 'compile', load));
  model.setAuxHiddenStateLayers(auxLayers);
  return { model, context };
}

async function openRanks(variant: Variant, name: string, size: number): Promise<PipelineRunner> {
  const checkpoint = await openCheckpoint(caseFolder(name));
  onTestFinished(() => checkpoint.close());
  const ranks = await Promise.all(Array.from({ length: size }, (_, rank) => loadRank(variant, checkpoint, { rank, size })));
  const runner = await PipelineRunner.open(ranks, new InterpreterBackend(), { kvSlots: 2 });
  onTestFinished(() => runner[Symbol.dispose]());
  return runner;
}

const tokensOf = (seed: number, count: number): number[] => Array.from({ length: count }, (_, i) => (seed + 37 * i) % 320);

/** Logits and residual streams of all tokens: two prompts in pieces, over the chunk's boundary at 16, then four steps of both sequences together. */
async function runAll(runner: PipelineRunner) {
  const logits: number[][] = [];
  const states: number[][] = [];
  const step = async (firstSlot: number, rows: { tokenIds: number[]; computed: number }[]): Promise<void> => {
    const result = await runner.run({ firstSlot, rows, logits: 'all' });
    logits.push([...result.logits]);
    states.push(...result.auxHiddenStates.map((state) => [...state]));
    expect(result.auxHiddenStates).toHaveLength(auxLayers.length);
  };
  const prompts = [tokensOf(11, 18), tokensOf(5, 3)];
  for (const [slot, prompt] of prompts.entries()) {
    for (let computed = 0; computed < prompt.length; ) {
      const count = Math.min(7, prompt.length - computed, runner.roomAfter(computed));
      await step(slot, [{ tokenIds: prompt.slice(computed, computed + count), computed }]);
      computed += count;
    }
  }
  for (let i = 0; i < 4; i++) {
    await step(
      0,
      prompts.map(({ length }, slot) => ({ tokenIds: [(100 * slot + 13 * i) % 320], computed: length + i })),
    );
  }
  return { logits, states };
}

test.each(['scout-tiny', 'maverick-tiny', 'dense-tiny'])(
  "L7 %s: logits and auxiliary hidden states of layers 0, 3 and last + 1 are on two and on three ranks what they are on one, and those of the overrides are upstream's",
  { timeout: 60_000 },
  async (name) => {
    const upstream = await runAll(await openRanks('upstream', name, 1));
    expect(upstream.states.map(({ length }) => length).slice(0, 3)).toEqual([7 * 32, 7 * 32, 7 * 32]);
    for (const size of [2, 3]) expect(await runAll(await openRanks('upstream', name, size)), `${size} ranks`).toEqual(upstream);
    const override = await runAll(await openRanks('override', name, 1));
    for (const what of ['logits', 'states'] as const)
      for (const [i, values] of override[what].entries()) expectClose(values, upstream[what][i]!);
    for (const size of [2, 3]) expect(await runAll(await openRanks('override', name, size)), `${size} ranks`).toEqual(override);
  },
);

test.each<[string, Variant, number[][]]>([
  // A first layer without a residual is on the first rank only: what enters another rank is a tensor.
  ['scout-tiny', 'upstream', [[3], [3, 2], [2, 2, 2]]],
  ['maverick-tiny', 'upstream', [[4], [4, 3], [3, 3, 2]]],
  ['scout-tiny', 'override', [[1], [1, 1], [1, 1, 1]]],
  ['maverick-tiny', 'override', [[2], [2, 2], [2, 2, 2]]],
])('L7 %s, %s: layer graphs of each rank, on one, two and three ranks', async (name, variant, expected) => {
  const counts = [];
  for (const size of [1, 2, 3]) counts.push((await openRanks(variant, name, size)).captures('decoder-layer'));
  expect(counts).toEqual(expected);
});

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).toHaveLength(expected.length);
  expect(actual.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0)).toBeLessThanOrEqual(1e-5);
}
