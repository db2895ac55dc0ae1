import { execFile } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { EventBus } from '@graft/common';
import { definePlugin } from '@graft/registry';
import { beforeAll, describe, expect, test } from 'vitest';
import type { z } from 'zod';
import type { EngineConfig } from '../config.ts';
import {
  collect,
  expectIdle,
  failureOf,
  folderWithTokenizer,
  idsOf,
  promptOf,
  request,
  temporaryFolder,
  textOf,
  tinyConfig,
} from '../engine.fixture.ts';
import type { Engine, EngineEvents, LoadProgress } from '../engine.ts';
import { LlmEngine } from '../llm-engine.ts';
import { startEngineWorker } from './engine-worker.ts';

const built = fileURLToPath(new URL('../../dist/index.js', import.meta.url));
const { plugins: _, ...shared } = tinyConfig({ platform: 'cpu', maxModelLength: 200, threads: 1 });
const cpu = (more: Partial<z.input<typeof EngineConfig>> = {}): z.input<typeof EngineConfig> => ({
  ...shared,
  plugins: ['@graft/cpu'],
  ...more,
});
const long = { maxTokens: 190 };

beforeAll(() => {
  if (!existsSync(built)) throw new Error('The worker runs the built package: run `npx tsc -b` first.');
});

describe('an engine in a worker', () => {
  let engine: Engine;
  let inProcess: LlmEngine;
  const progress: LoadProgress[] = [];
  beforeAll(async () => {
    const config = cpu({ model: folderWithTokenizer(), servedModelName: 'tiny' });
    engine = await startEngineWorker(config, { onProgress: (one) => progress.push(one) });
    inProcess = await LlmEngine.start(config);
    return async () => {
      await engine.close();
      await inProcess.close();
    };
  });

  test('reports its description and the progress of its start', () => {
    const { timings: _, createdAt: __, ...info } = inProcess.info;
    expect(engine.info).toMatchObject(info);
    expect(engine.info).toMatchObject({ model: 'tiny', platform: 'cpu', hasChatTemplate: true });
    expect(new Set(progress.map(({ step }) => step))).toEqual(new Set(['resolve', 'construct', 'load', 'open', 'capture', 'compile']));
  });

  test('gives the same answers as the engine in process', async () => {
    const asked = request({ text: 'hello world' }, { temperature: 2, seed: 5, maxTokens: 12, logprobs: 2 });
    const [there, here] = await Promise.all([engine, inProcess].map((one) => collect(one.generate(asked))));
    expect(idsOf(there!)).toEqual(idsOf(here!));
    expect(textOf(there!)).toBe(textOf(here!));
    expect(there!.map(({ logprobs }) => logprobs)).toEqual(here!.map(({ logprobs }) => logprobs));
    expect(there!.at(-1)).toMatchObject({ finishReason: 'length', usage: { completionTokens: 12 } });
    expect(await engine.tokenize('hello world')).toEqual(await inProcess.tokenize('hello world'));
  });

  test('serves several at once, and counts', async () => {
    const before = await engine.stats();
    const answers = await Promise.all([1, 2, 3, 4, 5].map((seed) => collect(engine.generate(request(promptOf(9, seed))))));
    expect(answers.map((deltas) => idsOf(deltas).length)).toEqual([6, 6, 6, 6, 6]);
    const after = await engine.stats();
    expect(after.promptTokens - before.promptTokens).toBe(45);
    expect(after.generationTokens - before.generationTokens).toBe(30);
  });

  test('frees the slot when the caller breaks, returns or aborts', async () => {
    for await (const _ of engine.generate(request(promptOf(4), long))) break;
    await expectIdle(engine);

    const returned = engine.generate(request(promptOf(4), long));
    await returned.next();
    expect(await engine.stats()).toMatchObject({ running: 1 });
    await returned.return();
    await expectIdle(engine);

    const controller = new AbortController();
    const aborted = engine.generate(request(promptOf(4), long), { signal: controller.signal });
    await aborted.next();
    controller.abort(new Error('my reason'));
    await expect(aborted.next()).rejects.toThrow('my reason');
    await expectIdle(engine);
  });

  test('an abort while the answer has not begun is rejected with its reason', async () => {
    const controller = new AbortController();
    const answer = collect(engine.generate(request(promptOf(180)), { signal: controller.signal }));
    controller.abort(new Error('too slow'));
    await expect(answer).rejects.toThrow('too slow');
    await expectIdle(engine);
    await expect(engine.generate(request([5]), { signal: controller.signal }).next()).rejects.toThrow('too slow');
  });

  test('weights are reloaded there, with progress; errors and aborts leave the old ones', async () => {
    const { model } = cpu({ model: folderWithTokenizer() });
    const before = await collect(engine.generate(request(promptOf(7))));
    const steps: string[] = [];
    const report = await engine.reloadWeights(model, { onProgress: ({ step }) => steps.push(step) });
    expect(report).toMatchObject({ model, weights: 'float32' });
    expect(new Set(steps)).toEqual(new Set(['load', 'open', 'capture', 'compile', 'drain']));
    expect(idsOf(await collect(engine.generate(request(promptOf(7)))))).toEqual(idsOf(before));

    expect((await failureOf(engine.reloadWeights('/nowhere'))).code).toBe('GRAFT_CHECKPOINT_NOT_FOUND');
    const controller = new AbortController();
    const onProgress = ({ step }: LoadProgress) => step === 'compile' && controller.abort(new Error('never mind'));
    await expect(engine.reloadWeights(model, { signal: controller.signal, onProgress })).rejects.toThrow('never mind');
    expect(idsOf(await collect(engine.generate(request(promptOf(7)))))).toEqual(idsOf(before));
  });

  test('errors cross with their code and words', async () => {
    const tooLong = await failureOf(collect(engine.generate(request(promptOf(200)))));
    expect([tooLong.code, tooLong.name]).toEqual(['GRAFT_PROMPT_TOO_LONG', 'PromptTooLongError']);
    expect(tooLong.message).toMatch(/200 tokens; the context holds 200[\s\S]*where: prompt[\s\S]*fix: shorten/);
    expect((await failureOf(collect(engine.generate(request([320]))))).code).toBe('GRAFT_TOKEN_OUT_OF_RANGE');
    expect((await failureOf(collect(engine.generate(request([5], { topK: -1 }))))).message).toMatch(/where: sampling\.topK/);
    await expectIdle(engine);
  });
});

describe('closing a worker', () => {
  test('ends what runs with an error; afterwards everything is refused', async () => {
    const engine = await startEngineWorker(cpu());
    const running = failureOf(collect(engine.generate(request(promptOf(4), long))));
    await engine.stats();
    await Promise.all([engine.close(), engine.close()]);
    expect((await running).code).toBe('GRAFT_ENGINE_CLOSED');
    expect((await failureOf(engine.stats())).code).toBe('GRAFT_ENGINE_CLOSED');
    expect((await failureOf(engine.tokenize('a'))).code).toBe('GRAFT_ENGINE_CLOSED');
    expect((await failureOf(collect(engine.generate(request([5]))))).code).toBe('GRAFT_ENGINE_CLOSED');
    await engine.close();
  });

  test.each([
    ['after it closed', 'await (await startEngineWorker(config)).close();'],
    ['after a start that failed', "await startEngineWorker({ ...config, model: '/nowhere' }).catch(() => {});"],
    [
      'after a start that was aborted',
      `const controller = new AbortController();
       const onProgress = ({ step }) => step === 'compile' && controller.abort();
       await startEngineWorker(config, { onProgress, signal: controller.signal }).catch(() => {});`,
    ],
  ])('keeps no process alive %s', async (_, body) => {
    const script = `import { startEngineWorker } from ${JSON.stringify(built)}; const config = ${JSON.stringify(cpu())}; ${body} console.log('end');`;
    const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { timeout: 30_000 });
    expect([stdout, stderr]).toEqual(['end\n', '']);
  });
});

describe('a start in a worker that fails', () => {
  test.each<[string, Partial<z.input<typeof EngineConfig>>, string, RegExp]>([
    ['a path with nothing at it', { model: '/nowhere' }, 'GRAFT_CHECKPOINT_NOT_FOUND', /\/nowhere/],
    ['an unknown plugin', { plugins: ['@graft/none'] }, 'GRAFT_PLUGIN_NOT_FOUND', /@graft\/none/],
    ['an unknown platform', { platform: 'gpu' }, 'GRAFT_UNKNOWN_PLATFORM', /"gpu"[\s\S]*cpu/],
    ['an unknown mode', { mode: 'eager' }, 'GRAFT_UNKNOWN_MODE', /"cpu" has no mode "eager"/],
    ['an unknown key', { thread: 2 } as object, 'GRAFT_ENGINE_CONFIG', /"thread"[\s\S]*"threads"/],
  ])('says why: %s', async (_, change, code, words) => {
    const error = await failureOf((async () => startEngineWorker(cpu(change)))());
    expect(error.code).toBe(code);
    expect(error.message).toMatch(words);
  });

  test.each(['load', 'compile'])('is rejected with the reason of an abort at "%s", and the next one succeeds', async (at) => {
    const controller = new AbortController();
    const onProgress = ({ step }: LoadProgress) => step === at && controller.abort(new Error('never mind'));
    const config = cpu({ cacheDirectory: temporaryFolder() });
    await expect(startEngineWorker(config, { onProgress, signal: controller.signal })).rejects.toThrow('never mind');
    const engine = await startEngineWorker(config);
    expect(idsOf(await collect(engine.generate(request(promptOf(3)))))).toHaveLength(6);
    await engine.close();
  });

  test('whose signal is aborted already starts nothing', async () => {
    const signal = AbortSignal.abort(new Error('before'));
    await expect((async () => startEngineWorker(cpu(), { signal }))()).rejects.toThrow('before');
  });
});

describe('the plugins of main thread and worker', () => {
  // The worker reads no TypeScript and gets the built registry; this thread, which may hold one copy, gets its own.
  const registryUrl = new URL('../../../registry/dist/index.js', import.meta.url).href;
  /** A plugin's module, in a folder of its own. */
  const pluginFile = (name: string, declaration: string): string => {
    const file = join(temporaryFolder(), `${name}.mjs`);
    Object.assign(globalThis, { registryHere: { definePlugin } });
    const registry = `isMainThread ? globalThis.registryHere : await import('${registryUrl}')`;
    const source = `import { isMainThread } from 'node:worker_threads';\nconst { definePlugin } = ${registry};\n`;
    writeFileSync(file, `${source}export default definePlugin({ name: '${name}', ${declaration} });\n`);
    return file;
  };

  test('the same plugins in both threads, one of them listed twice, change nothing', async () => {
    const mine = pluginFile('mine', "version: '1.0.0', retired: { Old: { note: 'gone' } }");
    const alone = await LlmEngine.start(cpu({ plugins: ['@graft/cpu', mine] }));
    const engine = await startEngineWorker(cpu({ plugins: ['@graft/cpu', mine, mine, '@graft/cpu'] }));
    try {
      expect(engine.info.plugins).toEqual(['core-model', 'cpu', 'mine']);
      expect([engine.info.resolution, engine.info.explanation]).toEqual([alone.info.resolution, alone.info.explanation]);
      const answers = await Promise.all([engine, alone].map((one) => collect(one.generate(request(promptOf(5))))));
      expect(idsOf(answers[0]!)).toEqual(idsOf(answers[1]!));
    } finally {
      await Promise.all([engine.close(), alone.close()]);
    }
  });

  test("what a plugin's hook warns of in the worker reaches the bus that was given here", async () => {
    const run = "run: (_model, _context, patches) => patches.warn('no rotation')";
    const hooks = `hooks: [{ of: 'Llama4ForCausalLM', platform: 'cpu', phase: 'init', ${run} }]`;
    const events = new EventBus<EngineEvents>();
    const warnings: EngineEvents['hook:warning'][] = [];
    events.on('hook:warning', (warning) => warnings.push(warning));
    const engine = await startEngineWorker(cpu({ plugins: ['@graft/cpu', pluginFile('warning', hooks)] }), { events });
    await engine.close();
    expect(warnings).toMatchObject([{ plugin: 'warning', message: 'no rotation' }]);
  });

  test.each([
    ['patches after its end', "patches.setField(model, 'late', 1)", 'GRAFT_PATCH_REFUSED', /of plugin "late" has ended/],
    ['throws in a timer', "{ throw new Error('boom'); }", 'GRAFT_UNCAUGHT', /boom[\s\S]*late\.mjs/],
    ['leaves a promise that rejects', "Promise.reject(new Error('boom'))", 'GRAFT_UNCAUGHT', /boom/],
  ])('a hook that %s ends the worker with its error', async (_, late, code, words) => {
    const run = `run: (model, _context, patches) => void setImmediate(() => ${late})`;
    const hooks = `hooks: [{ of: 'Llama4ForCausalLM', platform: 'cpu', phase: 'init', ${run} }]`;
    const error = await failureOf(startEngineWorker(cpu({ plugins: ['@graft/cpu', pluginFile('late', hooks)] })));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(words);
    expect(error.fix).toContain('await what it starts');
  });

  test('a plugin that is another in the worker stops the start with a diff', async () => {
    const file = pluginFile('two-faced', "retired: isMainThread ? { Old: { note: 'gone' } } : {}");
    const progress: LoadProgress[] = [];
    const error = await failureOf(startEngineWorker(cpu({ plugins: ['@graft/cpu', file] }), { onProgress: (one) => progress.push(one) }));
    expect([error.code, error.what]).toEqual([
      'GRAFT_PLUGIN_SETS_DIFFER',
      'The set of plugins differs: plugin "two-faced" has retired [], and ["Old"] was expected.',
    ]);
    expect(progress).toEqual([]); // no step of the path was begun
  });

  test('a plugin passed in code cannot follow into a worker, and the error says what to pass; in process it is loaded', async () => {
    const plugin = definePlugin({ name: 'in-code' });
    const error = await failureOf(startEngineWorker(cpu(), { pluginsInCode: [plugin] }));
    expect(error).toMatchObject({ code: 'GRAFT_PLUGIN_IN_CODE', where: 'plugin "in-code" (passed in code)' });
    expect(error.fix).toContain('name that module in `plugins`');
    const alone = await LlmEngine.start(cpu(), { pluginsInCode: [plugin] });
    expect(alone.info.plugins).toEqual(['core-model', 'in-code', 'cpu']);
    await alone.close();
  });

  test('a plugin passed in code is reached by a module of the same declaration, and refused where that one differs', async () => {
    const declaration = { name: 'both', version: '1.0.0', retired: { Old: { note: 'gone' } } };
    const same = pluginFile('both', "version: '1.0.0', retired: { Old: { note: 'gone' } }");
    const options = { pluginsInCode: [definePlugin(declaration)] };
    const engine = await startEngineWorker(cpu({ plugins: ['@graft/cpu', same] }), options);
    expect(engine.info.plugins).toEqual(['core-model', 'cpu', 'both']);
    await engine.close();
    const other = pluginFile('both', "version: '2.0.0'");
    const error = await failureOf(startEngineWorker(cpu({ plugins: ['@graft/cpu', other] }), options));
    expect([error.code, error.what]).toEqual(['GRAFT_PLUGIN_SETS_DIFFER', expect.stringContaining('"both" has version "2.0.0"')]);
  });
});
