import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { caseFolder, expectIdle, failureOf, folderWithConfig, generateIds, promptOf, request, startTiny } from './engine.fixture.ts';
import type { LoadProgress } from './engine.ts';
import { watch } from './interpreter-plugin.fixture.ts';
import { otherWeights } from './other-weights.fixture.ts';

afterEach(() => watch.reset());

const asked = request(promptOf(5), { maxTokens: 8 });

/** What the two checkpoints answer, each freshly loaded. */
async function answers(other: string): Promise<[number[], number[]]> {
  const both = [];
  for (const model of [caseFolder('dense-tiny'), other]) {
    const engine = await startTiny({ model });
    both.push(await generateIds(engine, asked));
    await engine.close();
  }
  expect(both[0]).not.toEqual(both[1]);
  return both as [number[], number[]];
}

test('the answers equal those of a fresh load, the report describes the reload, and the old program is disposed', async () => {
  const other = otherWeights();
  const [old, fresh] = await answers(other);
  const engine = await startTiny();
  const alive = watch.programsAlive;
  const steps: LoadProgress['step'][] = [];
  const report = await engine.reloadWeights(other, { onProgress: ({ step }) => steps.push(step) });
  expect(report).toMatchObject({ model: other, weights: 'float32', hooks: [], renames: [] });
  expect([...new Set(steps)]).toEqual(['load', 'open', 'capture', 'compile', 'drain']);
  expect(Object.keys(report.timings)).toEqual(['load', 'postLoad', 'open', 'capture', 'compile', 'drain']);
  expect(report.parameters).toBeGreaterThan(20);
  expect(await generateIds(engine, asked)).toEqual(fresh);
  await engine.reloadWeights(caseFolder('dense-tiny'));
  expect(await generateIds(engine, asked)).toEqual(old);
  expect(watch.programsAlive).toBe(alive);
});

test('the engine’s counts continue over a reload', async () => {
  const engine = await startTiny();
  await generateIds(engine, asked);
  const before = await engine.stats();
  await engine.reloadWeights(otherWeights());
  const { captures, compiles, computedTokens } = await engine.stats();
  expect({ captures, compiles, computedTokens }).toEqual({
    captures: before.captures * 2,
    compiles: before.compiles * 2,
    computedTokens: before.computedTokens,
  });
  await generateIds(engine, asked);
  expect((await engine.stats()).computedTokens).toBe(before.computedTokens * 2);
});

test('running requests end on the old weights, and waiting ones start on the new ones in their order', async () => {
  const other = otherWeights();
  const [old, fresh] = await answers(other);
  const engine = await startTiny({ maxSequences: 1 });
  const order: string[] = [];
  const noting = (name: string) => generateIds(engine, asked).finally(() => order.push(name));
  const running = noting('running');
  const waiting = [noting('first'), noting('second')];
  let late: Promise<number[]> | null = null;
  await engine.reloadWeights(other, {
    onProgress: ({ step }) => void (step === 'drain' && (late = Promise.resolve().then(() => noting('late')))),
  });
  expect(await running).toEqual(old);
  expect(await late).toEqual(fresh);
  const waited = await Promise.all(waiting);
  expect(order).toEqual(['running', 'first', 'second', 'late']);
  // Whether one that waited was let in before the drain depends on how long the staging took; each is whole, on one set of weights.
  for (const ids of waited) expect([old, fresh]).toContainEqual(ids);
  await expectIdle(engine);
});

test('no request starts during the drain, and an aborted sequence no longer delays it', async () => {
  const other = otherWeights();
  const [, fresh] = await answers(other);
  const engine = await startTiny();
  const controller = new AbortController();
  const ended: Promise<unknown>[] = [];
  let counts: object | null = null;
  await engine.reloadWeights(other, {
    onProgress: ({ step }) => {
      if (step !== 'drain') return;
      const endless = request(promptOf(4), { maxTokens: 55 });
      ended.push(expect(generateIds(engine, endless, { signal: controller.signal })).rejects.toThrow('gone'));
      watch.beforeRun = async () => {
        if (counts !== null) return;
        ended.push(generateIds(engine, asked));
        counts = await engine.stats();
        controller.abort(new Error('gone'));
      };
    },
  });
  expect(counts).toMatchObject({ running: 1, waiting: 1 });
  expect((await Promise.all(ended))[1]).toEqual(fresh);
  await expectIdle(engine);
});

test.each(['load', 'open', 'capture', 'compile', 'drain'] as const)(
  'an abort at "%s" leaves the old weights serving and no second program',
  async (at) => {
    const other = otherWeights();
    const [old, fresh] = await answers(other);
    const engine = await startTiny();
    const alive = watch.programsAlive;
    const controller = new AbortController();
    const ended = engine.reloadWeights(other, {
      signal: controller.signal,
      onProgress: ({ step }) => step === at && controller.abort(new Error('never mind')),
    });
    await expect(ended).rejects.toThrow('never mind');
    expect(watch.programsAlive).toBe(alive);
    expect(await generateIds(engine, asked)).toEqual(old);
    await engine.reloadWeights(other);
    expect(await generateIds(engine, asked)).toEqual(fresh);
  },
);

test('an abort during the drain lets the running sequence end and the others start', async () => {
  const engine = await startTiny();
  const controller = new AbortController();
  let waited: Promise<number[]> | null = null;
  const long = generateIds(engine, request(promptOf(4), { maxTokens: 50 }));
  const ended = engine.reloadWeights(otherWeights(), {
    signal: controller.signal,
    onProgress: ({ step }) => {
      if (step !== 'drain') return;
      watch.beforeRun = () => {
        waited ??= generateIds(engine, asked);
        controller.abort(new Error('too slow'));
      };
      void generateIds(engine, asked);
    },
  });
  await expect(ended).rejects.toThrow('too slow');
  watch.beforeRun = null;
  expect(await long).toHaveLength(50);
  expect(await waited).toHaveLength(8);
});

test.each<[string, () => string, string, RegExp]>([
  ['nothing', () => '/nowhere', 'GRAFT_CHECKPOINT_NOT_FOUND', /\/nowhere/],
  [
    'another config',
    () => folderWithConfig('dense-tiny', { rms_norm_eps: 0.5, eos_token_id: 7 }),
    'GRAFT_RELOAD_CONFIG',
    /rmsNormEps \(served: .*; checkpoint: 0\.5\), eosTokenIds \(.*; checkpoint: \[7\]\)/,
  ],
  ['another architecture', () => caseFolder('scout-tiny'), 'GRAFT_RELOAD_CONFIG', /numLocalExperts|layers/],
  [
    'a folder without weights',
    () => {
      const folder = otherWeights();
      rmSync(join(folder, 'model.safetensors'));
      return folder;
    },
    'GRAFT_CHECKPOINT_NOT_FOUND',
    /model\.safetensors/,
  ],
])('a path with %s is refused, and the old weights serve', async (_, path, code, words) => {
  const engine = await startTiny();
  const before = await generateIds(engine, asked);
  const error = await failureOf(engine.reloadWeights(path()));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(words);
  expect(await generateIds(engine, asked)).toEqual(before);
});

test('one reload at a time', async () => {
  const other = otherWeights();
  const engine = await startTiny();
  const first = engine.reloadWeights(other);
  const busy = await failureOf(engine.reloadWeights(caseFolder('dense-tiny')));
  expect([busy.code, busy.message]).toEqual(['GRAFT_RELOAD_BUSY', expect.stringContaining(other)]);
  await first;
  await engine.reloadWeights(caseFolder('dense-tiny'));
});

test.each(['load', 'drain'] as const)('closing during "%s" ends the reload with an error and frees both programs', async (at) => {
  const alive = watch.programsAlive;
  const engine = await startTiny();
  let closed: Promise<void> | null = null;
  const ended = failureOf(
    engine.reloadWeights(otherWeights(), {
      onProgress: ({ step }) => {
        if (step === at) closed ??= engine.close();
      },
    }),
  );
  expect((await ended).code).toBe('GRAFT_ENGINE_CLOSED');
  await closed;
  expect(watch.programsAlive).toBe(alive);
  expect((await failureOf(engine.reloadWeights(otherWeights()))).code).toBe('GRAFT_ENGINE_CLOSED');
});
