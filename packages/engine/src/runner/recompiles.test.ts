import { EventBus } from '@graft/common';
import { InterpreterBackend } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import { expect, test } from 'vitest';
import { generateIds, promptOf, request, startTiny } from '../engine.fixture.ts';
import type { EngineEvents, Recompile } from '../engine.ts';
import { addStats } from '../served-model.ts';
import { Backend, ModelRunner } from '../tokens.ts';
import { AnyShapeRunner } from './any-shape-runner.ts';
import { captureLanguageModel } from './capture-model.ts';
import type { RunnerStats, RunResult, RunStep } from './model-runner.ts';

/** A vendor's runner that captures each step at its own shape. */
class Specialising extends AnyShapeRunner {
  override run(step: RunStep): Promise<RunResult> {
    captureLanguageModel(this.parts.model, this.cache, {
      batch: step.rows.length,
      sequence: step.rows[0]!.tokenIds.length,
    });
    return super.run(step);
  }
}

const plugin = definePlugin({
  name: 'specialising',
  platforms: [{ name: 'specialising', modes: ['regional'], detect: () => 'device' }],
  bind(bind) {
    bind(Backend).toConstantValue(new InterpreterBackend());
    bind(ModelRunner).to(Specialising);
  },
});

async function run(onRecompile: 'allow' | 'warn') {
  const events = new EventBus<EngineEvents>();
  const reported: Recompile[] = [];
  events.on('graph:recompile', (recompile) => reported.push(recompile));
  const options = { events, pluginsInCode: [plugin] };
  const engine = await startTiny({ platform: 'specialising', plugins: [], onRecompile, prefillTokens: 64 }, options);
  await generateIds(engine, request(promptOf(2), { maxTokens: 1 }));
  return { reported, stats: await engine.stats() };
}

test('a capture of a runner for any shape after `ready` is reported, with the guard, both values and the stall', async () => {
  const { reported, stats } = await run('warn');
  expect(reported).not.toEqual([]);
  expect(reported[0]).toMatchObject({ path: expect.any(String), stallMs: expect.any(Number) });
  expect(reported.flatMap(({ failures }) => failures)).toContainEqual({
    guard: expect.any(String),
    expected: expect.stringContaining('[batch, sequence'),
    actual: expect.stringContaining('[1, 2'),
  });
  expect(stats).toMatchObject({ recompiles: reported.length, recentRecompiles: reported });
});

test('with "allow" it is counted but not reported', async () => {
  const { reported, stats } = await run('allow');
  expect(reported).toEqual([]);
  expect(stats.recompiles).toBe(stats.recentRecompiles.length);
  expect(stats.recompiles).toBeGreaterThan(0);
});

test('the last 50 recompiles are kept, including those of a replaced runner', () => {
  const all = Array.from({ length: 70 }, (_, i) => ({ at: '', region: 'bucket', path: String(i), failures: [], stallMs: 0 }));
  const counts = { captures: 0, compiles: 0, optimisations: 0, recipes: 0, warmUpSeconds: 0, computedTokens: 0, paddedTokens: 0 };
  const statsOf = (recompiles: number, recentRecompiles: Recompile[]): RunnerStats => ({ ...counts, recompiles, recentRecompiles });
  const { recompiles, recentRecompiles } = addStats(statsOf(60, all.slice(10, 60)), statsOf(10, all.slice(60)));
  expect(recompiles).toBe(70);
  expect(recentRecompiles).toEqual(all.slice(20));
});
