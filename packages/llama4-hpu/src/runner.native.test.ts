import type { LlmEngine } from '@graft/engine';
import { expect, test } from 'vitest';
import { random, randomRequests, runAll } from '../../../tests/soak/random-requests.ts';
import { startHpu } from './run-hpu.fixture.ts';
import { expectAlike, runVariants, textCases } from './run-variants.fixture.ts';

const emulated = new URL('./emulated-hpu.fixture.ts', import.meta.url).href;

// ONNX Runtime fuses another first norm where there are zeros to add, so 1e-5 is of the largest value, as for cpu (tests/hpu-overrides.native.test.ts).
test.each(textCases)(
  'L5 on the emulated device, %s: upstream, upstream-equivalent and default give equal logits, residual streams and greedy ids, token by token and in buckets',
  async (name) => expectAlike(await runVariants(name, emulated, { alsoLast: true }), 'largest'),
);

const counts = async (engine: LlmEngine) => {
  const { captures, compiles, optimisations, recompiles } = await engine.stats();
  return { captures, compiles, optimisations, recompiles };
};

test.each(['scout-tiny', 'maverick-tiny'])(
  'L4 on %s 500 random requests, 4 at a time, capture and compile nothing after the warm-up, and each gets the ids that it gets alone',
  async (name) => {
    const engine = await startHpu(name, { onRecompile: 'fail', platformOptions: { promptQuery: { min: 4, step: 4 } } });
    const before = await counts(engine);
    expect(before.compiles).toBeGreaterThan(0);
    expect(before.recompiles).toBe(0);
    const next = random(name.length);
    const pool = randomRequests(next, 100, 48);
    const order = Array.from({ length: 500 }, () => next(pool.length));
    const alone = await runAll(engine, pool, { atOnce: 1 });
    const together = await runAll(
      engine,
      order.map((place) => pool[place]!),
      { atOnce: 4 },
    );
    expect(together).toEqual(order.map((place) => alone[place]));
    expect(await counts(engine)).toEqual(before);
    const { computedTokens, paddedTokens } = await engine.stats();
    expect(pool.some(({ tokenIds }) => tokenIds.length > 32)).toBe(true); // over two boundaries of a chunk
    expect(computedTokens).toBeGreaterThan(0);
    expect(paddedTokens).toBeGreaterThan(0);
  },
);
