// A reload of weights under renames, on the platform that compiles the whole model.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LlmEngine, type LoadProgress } from '@graft/engine';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { safetensorsBytes } from '../packages/core-model/src/weights/checkpoint-files.fixture.ts';
import {
  caseFolder,
  expectIdle,
  failureOf,
  generateIds,
  promptOf,
  request,
  temporaryFolder,
  tinyConfig,
} from '../packages/engine/src/engine.fixture.ts';
import { models } from './reload-plugin.fixture.ts';

const plugin = fileURLToPath(new URL('./reload-plugin.fixture.ts', import.meta.url));

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** A copy of scout-tiny whose file is changed. */
function copyOfScout(change: (header: Header, data: Buffer) => [Header, Uint8Array]): string {
  const folder = temporaryFolder();
  cpSync(caseFolder('scout-tiny'), folder, { recursive: true });
  const file = join(folder, 'model.safetensors');
  const bytes = readFileSync(file);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const [header, data] = change(JSON.parse(bytes.toString('utf8', 8, end)) as Header, bytes.subarray(end));
  writeFileSync(file, safetensorsBytes(JSON.stringify(header), data));
  return folder;
}

/** Every weight moved by up to a fifth: two bits of the bfloat16 mantissa, chosen by position and seed. */
const perturbed = (seed: number): string =>
  copyOfScout((header, data) => {
    for (let i = 0; i < data.length; i += 2) data[i]! ^= ((Math.imul(i + seed, 0x9e3779b1) >>> 28) & 3) << 4;
    return [header, data];
  });

/** Without the tensor that lies last in the file. */
const lackingOne = (): string =>
  copyOfScout(({ __metadata__: metadata, ...header }, data) => {
    const [key, { data_offsets: offsets }] = Object.entries(header).sort(([, a], [, b]) => b.data_offsets[0] - a.data_offsets[0])[0]!;
    delete header[key];
    return [metadata === undefined ? header : { __metadata__: metadata, ...header }, data.subarray(0, offsets[0])];
  });

async function start(model: string): Promise<LlmEngine> {
  const config = tinyConfig({ model, plugins: ['@graft/cpu', plugin], platform: 'cpu', threads: 1, maxModelLength: 200 });
  const engine = await LlmEngine.start(config);
  onTestFinished(() => engine.close());
  return engine;
}

const prompt = request(promptOf(24), { maxTokens: 12 });

/** Ids, and the logits of every position. */
async function outputs(engine: LlmEngine): Promise<{ ids: number[]; logits: number[][] }> {
  const logits: number[][] = [];
  const observer = { promptLogits: true, onLogits: (position: number, row: Float32Array) => void (logits[position] = [...row]) };
  return { ids: await generateIds(engine, prompt, { observer }), logits };
}

const buffersOf = () => [...models.at(-1)!.namedBuffers()].map(([name, buffer]) => ({ name, buffer, values: [...buffer.toFloat32()] }));

let checkpoints: string[];
let fresh: Awaited<ReturnType<typeof outputs>>[];
beforeAll(async () => {
  checkpoints = [caseFolder('scout-tiny'), perturbed(1), perturbed(2)];
  fresh = [];
  for (const path of checkpoints) {
    const engine = await LlmEngine.start(
      tinyConfig({ model: path, plugins: ['@graft/cpu', plugin], platform: 'cpu', threads: 1, maxModelLength: 200 }),
    );
    fresh.push(await outputs(engine));
    await engine.close();
  }
});

test('after a post-load rename, reloaded weights give the outputs of a fresh load bit for bit, three times over', async () => {
  expect(new Set(fresh.map(({ logits }) => JSON.stringify(logits))).size).toBe(3);
  const engine = await start(checkpoints[0]!);
  expect(await outputs(engine)).toEqual(fresh[0]);
  const model = models.at(-1)!;
  const names = [...model.namedParameters()].map(([name]) => name);
  expect(names).toContain('model.layers.0.feed_forward.inner.shared_expert.inner.down_proj.weight');
  const buffers = buffersOf();
  expect(buffers.some(({ buffer }) => !buffer.persistent)).toBe(true);
  for (const which of [1, 2, 0]) {
    const report = await engine.reloadWeights(checkpoints[which]!);
    expect(await outputs(engine)).toEqual(fresh[which]);
    expect(report.hooks.map(({ hook, outcome }) => [hook, outcome])).toEqual([
      ['HpuLlama4ForCausalLM.unifyFeedForward', 'skipped: other mode'],
      ['WrappingLlama4.wrapSharedExperts', 'kept'],
      ['WrappingLlama4.doubleFinalNorm', 'ran again'],
      ['WrappingLlama4.wrapFeedForward', 'undone and ran again'],
    ]);
    expect([...model.namedParameters()].map(([name]) => name)).toEqual(names);
    const now = buffersOf();
    expect(now).toEqual(buffers);
    expect(now.every(({ buffer }, i) => buffer === buffers[i]!.buffer)).toBe(true);
  }
});

test('a checkpoint that lacks one tensor leaves the old weights serving, also under a stream', async () => {
  const engine = await start(checkpoints[0]!);
  const long = request(promptOf(8), { maxTokens: 150 });
  const alone = await generateIds(engine, long);
  const during = generateIds(engine, long);
  await expect.poll(() => engine.stats(), { interval: 1 }).toMatchObject({ running: 1 });
  const error = await failureOf(engine.reloadWeights(lackingOne()));
  expect([error.code, error.message]).toEqual([
    'GRAFT_CHECKPOINT_MISSING_TENSOR',
    expect.stringMatching(/needs "[\w.]+", which the checkpoint lacks/),
  ]);
  expect(await during).toEqual(alone);
  expect(await outputs(engine)).toEqual(fresh[0]);

  // One that is given up when its hooks have run and its program is compiled: names and weights go back.
  const names = () => [...models.at(-1)!.namedParameters()].map(([name]) => name);
  const before = names();
  const controller = new AbortController();
  const onProgress = ({ step }: LoadProgress) => step === 'drain' && controller.abort(new Error('given up'));
  await expect(engine.reloadWeights(checkpoints[2]!, { signal: controller.signal, onProgress })).rejects.toThrow('given up');
  expect(names()).toEqual(before);
  expect(await outputs(engine)).toEqual(fresh[0]);
  await engine.reloadWeights(checkpoints[1]!);
  expect(await outputs(engine)).toEqual(fresh[1]);
});

test('a stream that runs meanwhile ends on the old weights, and what comes while it does starts on the new ones', async () => {
  const engine = await start(checkpoints[0]!);
  const long = request(promptOf(8), { maxTokens: 180 });
  const alone = await generateIds(engine, long);
  const throughout = generateIds(engine, long);
  await Promise.all([engine.reloadWeights(checkpoints[1]!), throughout]);
  expect(await throughout).toEqual(alone);
  expect(await outputs(engine)).toEqual(fresh[1]);

  const onSecond = await generateIds(engine, long);
  const drained: Promise<unknown>[] = [];
  await engine.reloadWeights(checkpoints[2]!, {
    onProgress: ({ step }) => {
      if (step !== 'drain') return;
      drained.push(generateIds(engine, long)); // the engine is idle, so this one runs before the drain begins
      drained.push(Promise.resolve().then(() => outputs(engine)));
    },
  });
  expect(await Promise.all(drained)).toEqual([onSecond, fresh[2]]);
  await expectIdle(engine);
});
