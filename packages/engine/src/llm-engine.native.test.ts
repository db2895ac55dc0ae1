import { setImmediate } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { readReferenceCase } from '../../../tests/parity/reference-case.ts';
import { caseFolder, expectIdle, generateIds, promptOf, request, type TinyOptions, tinyConfig } from './engine.fixture.ts';
import { LlmEngine } from './llm-engine.ts';
import { windowPlugin } from './window-plugin.fixture.ts';

async function startCpu(more: TinyOptions = {}): Promise<LlmEngine> {
  const engine = await LlmEngine.start(tinyConfig({ name: 'scout-tiny', plugins: ['@graft/cpu'], platform: 'cpu', threads: 1, ...more }));
  onTestFinished(() => engine.close());
  return engine;
}

test.each(['float32', 'auto'] as const)(
  'concurrent requests give the same tokens as each alone on the cpu, weights %s',
  async (weights) => {
    const engine = await startCpu({ weights });
    const requests = [20, 3, 9, 33, 1].flatMap((length, i) => [
      request(promptOf(length, i), { maxTokens: 10 }),
      request(promptOf(length, i), { maxTokens: 10, temperature: 1, seed: i }),
    ]);
    const alone: number[][] = [];
    for (const one of requests) alone.push(await generateIds(engine, one));
    expect(await Promise.all(requests.map((one) => generateIds(engine, one)))).toEqual(alone);
  },
);

test.each([
  ['cpu', '@graft/cpu'],
  ['hpu', '@graft/llama4-hpu'],
])(
  'on %s a cache that holds a window gives the tokens of one that holds all, in pieces, together and in slots that are used again',
  async (platform, plugin) => {
    const start = async (prefillTokens: number): Promise<LlmEngine> => {
      const config = { name: 'llama-rope3', plugins: [plugin], platform, threads: 1, maxSequences: 2, prefillTokens };
      const engine = await LlmEngine.start(tinyConfig(config), { pluginsInCode: [windowPlugin(platform)] });
      onTestFinished(() => engine.close());
      return engine;
    };
    const requests = [20, 3, 9, 33, 1].map((length, i) => request(promptOf(length, i), { maxTokens: 5 + 3 * i }));
    const whole = await start(64);
    const expected: number[][] = [];
    for (const one of requests) expected.push(await generateIds(whole, one));
    for (const prefillTokens of [1, 5]) {
      const engine = await start(prefillTokens);
      expect(await Promise.all(requests.map((one) => generateIds(engine, one)))).toEqual(expected);
    }
  },
);

/** Turns of the event loop: the first ones pass before a run begins, the others while native code computes it. */
async function afterTurns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await setImmediate();
}

test('the reference case is right with pieces of any size', async () => {
  const { inputIds, decodeIds } = await readReferenceCase(caseFolder('scout-tiny'));
  for (const prefillTokens of [1, 5, 16, 100]) {
    const engine = await startCpu({ prefillTokens, maxModelLength: 200 });
    const ids = await Promise.all(inputIds.map((prompt) => generateIds(engine, request(prompt, { maxTokens: 6 }))));
    expect(ids).toEqual(decodeIds.map((row) => row.slice(0, 6)));
  }
});

test('an abort of the first in a group, while a prompt before it in the step is prefilled, leaves the group as it would be', async () => {
  const engine = await startCpu({ name: 'dense-tiny', maxModelLength: 250, prefillTokens: 200 });
  const asked = request(promptOf(5, 2), { maxTokens: 200, temperature: 1, seed: 3 });
  const alone = await generateIds(engine, asked);
  for (let round = 0; round < 10; round++) {
    const controller = new AbortController();
    const aborted = generateIds(engine, request(promptOf(4), { maxTokens: 240 }), { signal: controller.signal });
    const other = generateIds(engine, asked);
    await expect.poll(() => engine.stats(), { interval: 1 }).toMatchObject({ running: 2 });
    const third = generateIds(engine, request(promptOf(200, round), { maxTokens: 1 }));
    void afterTurns(round).then(() => controller.abort(new Error('gone')));
    await expect(aborted).rejects.toThrow('gone');
    expect(await other).toEqual(alone);
    expect(await third).toHaveLength(1);
    await expectIdle(engine);
  }
});

test('an abort during a prefill run ends that run, and leaves the others and the next in the place as they would be', async () => {
  const engine = await startCpu({ name: 'dense-tiny', maxModelLength: 250, prefillTokens: 240, maxSequences: 2 });
  const decodes = request(promptOf(5, 2), { maxTokens: 200, temperature: 1, seed: 3 });
  const prefills = request(promptOf(230, 4), { maxTokens: 4 });
  const [decoded, prefilled] = [await generateIds(engine, decodes), await generateIds(engine, prefills)];
  const decoding = generateIds(engine, decodes);
  for (let round = 0; round < 20; round++) {
    const controller = new AbortController();
    const aborted = generateIds(engine, prefills, { signal: controller.signal }).catch(String);
    void afterTurns(round % 4).then(() => controller.abort(new Error('gone')));
    expect(['Error: gone', prefilled]).toContainEqual(await aborted);
  }
  expect(await generateIds(engine, prefills)).toEqual(prefilled);
  expect(await decoding).toEqual(decoded);
  await expectIdle(engine);
});
