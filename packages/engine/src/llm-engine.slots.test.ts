import { setImmediate } from 'node:timers/promises';
import type { ProgramStep } from '@graft/graph';
import { afterEach, describe, expect, test } from 'vitest';
import { expectIdle, generateIds, promptOf, request, startTiny } from './engine.fixture.ts';
import { watch } from './interpreter-plugin.fixture.ts';

afterEach(() => watch.reset());

const lengthOf = ({ inputs }: ProgramStep): number => inputs['inputIds']!.dims[1]!;
const isDecode = (step: ProgramStep): boolean => lengthOf(step) === 1;
const long = { maxTokens: 50 };

/** Holds or fails one run: the first that fits. */
function onRun(fits: (step: ProgramStep) => boolean, body: (step: ProgramStep) => void | Promise<void>): void {
  watch.beforeRun = async (step) => {
    if (!fits(step)) return;
    watch.beforeRun = null;
    await body(step);
  };
}

describe('a slot is free again, and nothing more is computed, after', () => {
  test.each<[string, (deltas: AsyncGenerator<unknown, void, void>, controller: AbortController) => Promise<void>]>([
    ['the caller returns', async (deltas) => void (await deltas.return())],
    [
      'the caller throws into the iterator',
      async (deltas) => {
        await expect(deltas.throw(new Error('mine'))).rejects.toThrow('mine');
      },
    ],
    [
      'the signal is aborted',
      async (deltas, controller) => {
        controller.abort(new Error('enough'));
        await expect(deltas.next()).rejects.toThrow('enough');
      },
    ],
    [
      'the caller breaks out of its loop',
      async (deltas) => {
        for await (const _ of deltas) break;
      },
    ],
  ])('%s', async (_, leave) => {
    const engine = await startTiny();
    const controller = new AbortController();
    const deltas = engine.generate(request(promptOf(4), long), { signal: controller.signal });
    await deltas.next();
    expect(await engine.stats()).toMatchObject({ running: 1, freeSlots: 2 });
    await leave(deltas, controller);
    expect(await engine.stats()).toMatchObject({ running: 0, waiting: 0, freeSlots: 3 });
    const steps = watch.steps.length;
    await generateIds(engine, request(promptOf(4), { maxTokens: 1 }));
    expect(watch.steps.length).toBeLessThanOrEqual(steps + 1);
    expect(await generateIds(engine, request(promptOf(4), { maxTokens: 3 }))).toHaveLength(3);
  });

  test('the answer is complete, even if its last deltas are unread', async () => {
    const engine = await startTiny();
    const deltas = engine.generate(request(promptOf(4), { maxTokens: 3 }));
    await deltas.next();
    await expectIdle(engine);
    expect((await deltas.next()).done).toBe(false);
    expect((await deltas.next()).value).toMatchObject({ finishReason: 'length' });
    expect((await deltas.next()).done).toBe(true);
  });
});

describe('an abort', () => {
  test('before the call is answered at once', async () => {
    const engine = await startTiny();
    const signal = AbortSignal.abort(new Error('before'));
    await expect(engine.generate(request(promptOf(4)), { signal }).next()).rejects.toThrow('before');
    expect(watch.steps).toEqual([]);
  });

  test('of a waiting request removes it from the queue and affects no other request', async () => {
    const engine = await startTiny({ maxSequences: 1 });
    const alone = await generateIds(engine, request(promptOf(4), { maxTokens: 20 }));
    const controller = new AbortController();
    const running = generateIds(engine, request(promptOf(4), { maxTokens: 20 }));
    const waiting = generateIds(engine, request(promptOf(5)), { signal: controller.signal });
    const next = generateIds(engine, request(promptOf(4), { maxTokens: 20 }));
    await expect.poll(() => engine.stats(), { interval: 1 }).toMatchObject({ running: 1, waiting: 2 });
    controller.abort(new Error('no more'));
    expect(await engine.stats()).toMatchObject({ running: 1, waiting: 1 });
    await expect(waiting).rejects.toThrow('no more');
    expect(await running).toEqual(alone);
    expect(await next).toEqual(alone);
  });

  test('during prefill ends it within the piece that runs', async () => {
    const engine = await startTiny();
    const controller = new AbortController();
    let pieces = 0;
    watch.beforeRun = () => {
      if (++pieces === 2) controller.abort(new Error('gone'));
    };
    await expect(generateIds(engine, request(promptOf(60)), { signal: controller.signal })).rejects.toThrow('gone');
    await expectIdle(engine);
    expect(pieces).toBe(2);
  });

  test('during a decode run leaves the others of the group as they would be alone', async () => {
    const engine = await startTiny({ name: 'scout-tiny' });
    const sampling = { maxTokens: 12 };
    const others = [request(promptOf(5, 2), sampling), request(promptOf(7, 3), sampling)];
    const alone = [await generateIds(engine, others[0]!), await generateIds(engine, others[1]!)];
    const controller = new AbortController();
    onRun(
      ({ batch }) => batch === 3,
      () => controller.abort(new Error('gone')),
    );
    const first = generateIds(engine, request(promptOf(4), long), { signal: controller.signal });
    const rest = others.map((one) => generateIds(engine, one));
    await expect(first).rejects.toThrow('gone');
    expect(await Promise.all(rest)).toEqual(alone);
  });

  test('of the first in a group, while the prompt before it in the step is prefilled, leaves the group as it would be', async () => {
    const engine = await startTiny({ name: 'scout-tiny' });
    const alone = await generateIds(engine, request(promptOf(5, 2), { maxTokens: 12 }));
    const controller = new AbortController();
    const leavesSlot0 = generateIds(engine, request(promptOf(2), { maxTokens: 3 }));
    const first = generateIds(engine, request(promptOf(4), long), { signal: controller.signal });
    const second = generateIds(engine, request(promptOf(5, 2), { maxTokens: 12 }));
    await leavesSlot0;
    await expect.poll(() => watch.steps.at(-1), { interval: 1 }).toMatchObject({ batch: 2, firstSlot: 1 });
    onRun(
      (step) => !isDecode(step),
      () => controller.abort(new Error('gone')),
    );
    const third = generateIds(engine, request(promptOf(30, 3), { maxTokens: 1 }));
    await expect(first).rejects.toThrow('gone');
    expect(await second).toEqual(alone);
    expect(await third).toHaveLength(1);
  });

  test('of a sequence in a run does not free its slot before the run has ended', async () => {
    const engine = await startTiny({ name: 'scout-tiny', maxSequences: 2 });
    const sampling = { maxTokens: 10 };
    const [stays, comes] = [request(promptOf(5, 2), sampling), request(promptOf(7, 3), sampling)];
    const alone = [await generateIds(engine, stays), await generateIds(engine, comes)];
    const controller = new AbortController();
    let late: Promise<number[]> | null = null;
    onRun(
      ({ batch }) => batch === 2,
      async () => {
        controller.abort(new Error('gone'));
        late = generateIds(engine, comes);
        expect(await engine.stats()).toMatchObject({ running: 1, waiting: 1, freeSlots: 1 });
        for (let turn = 0; turn < 20; turn++) await setImmediate();
        expect(await engine.stats()).toMatchObject({ running: 1, waiting: 1, freeSlots: 1 });
      },
    );
    const first = generateIds(engine, request(promptOf(4), long), { signal: controller.signal });
    const second = generateIds(engine, stays);
    await expect(first).rejects.toThrow('gone');
    expect(await second).toEqual(alone[0]);
    expect(await late).toEqual(alone[1]);
  });
});

describe('an error', () => {
  test('in a prefill run ends that sequence only', async () => {
    const engine = await startTiny({ name: 'scout-tiny' });
    const alone = await generateIds(engine, request(promptOf(5, 2), { maxTokens: 12 }));
    watch.reset();
    const decoding = generateIds(engine, request(promptOf(5, 2), { maxTokens: 12 }));
    await expect.poll(() => watch.steps.some(isDecode), { interval: 1 }).toBe(true);
    onRun(
      (step) => !isDecode(step),
      () => {
        throw new Error('out of memory');
      },
    );
    await expect(generateIds(engine, request(promptOf(20)))).rejects.toThrow('out of memory');
    expect(await decoding).toEqual(alone);
    await expectIdle(engine);
  });

  test('in a decode run ends that group only, and the engine goes on', async () => {
    const engine = await startTiny({ name: 'scout-tiny' });
    const alone = await generateIds(engine, request(promptOf(20, 1), { maxTokens: 4 }));
    onRun(
      ({ batch }) => batch === 2,
      () => {
        throw new Error('lost the device');
      },
    );
    const group = [1, 2].map((seed) => generateIds(engine, request(promptOf(3, seed), long)));
    const prefilling = generateIds(engine, request(promptOf(20, 1), { maxTokens: 4 }));
    const ended = await Promise.allSettled(group);
    const lost = { status: 'rejected', reason: expect.objectContaining({ what: 'Backend.run() threw: lost the device.' }) };
    expect(ended).toEqual([lost, lost]);
    expect(await prefilling).toEqual(alone);
    await expectIdle(engine);
    expect(await generateIds(engine, request(promptOf(20, 1), { maxTokens: 4 }))).toEqual(alone);
  });

  test('in one row of a decode run ends that sequence only', async () => {
    const engine = await startTiny({ name: 'scout-tiny' });
    const alone = await generateIds(engine, request(promptOf(5, 2), { maxTokens: 12 }));
    const observer = {
      onLogits(position: number, logits: Float32Array) {
        if (position === 6) logits[3] = Number.NaN;
      },
    };
    const broken = generateIds(engine, request(promptOf(4), long), { observer });
    const other = generateIds(engine, request(promptOf(5, 2), { maxTokens: 12 }));
    await expect(broken).rejects.toMatchObject({ code: 'GRAFT_LOGITS_INVALID' });
    expect(await other).toEqual(alone);
    await expectIdle(engine);
  });
});
