// A model with images, from a request to its answer.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { llama4, openFileBytes, readSafetensorsHeader } from '@graft/core-model';
import { LlmEngine, startEngineWorker, type TokenLogprob } from '@graft/engine';
import { aligned } from '@graft/graph';
import { createApp } from '@graft/server';
import { expect, onTestFinished, test } from 'vitest';
import { collect, folderWithImages, generateIds, imageTokenIds, request } from '../packages/engine/src/engine.fixture.ts';
import { cpu, hpu, interpreter } from './parity/backends.ts';
import { readReferenceCase } from './parity/reference-case.ts';
import { runCase } from './parity/run-case.ts';
import { root } from './sources.ts';

const fixtures = fileURLToPath(new URL('./fixtures/images/', import.meta.url));

test.each([interpreter, cpu, hpu])('image features, logits and greedy ids of vision-tiny on $name', async (backend) => {
  const { passed, line } = await runCase(await readReferenceCase(join(root, 'tests/parity/cases/vision-tiny')), backend, root);
  expect(passed, line).toBe(true);
});

test('on hpu, sequences with images beside one of text cause no recompile and give the ids that each gives alone on cpu', async () => {
  const config = { model: folderWithImages(), maxSequences: 4, maxModelLength: 128, prefillTokens: 16, app: root };
  const picture = (name: string) => ({ type: 'image' as const, data: new Uint8Array(readFileSync(join(fixtures, `${name}.png`))) });
  const chat = (...content: ({ type: 'text'; text: string } | ReturnType<typeof picture>)[]) =>
    request({ messages: [{ role: 'user', content }] }, { maxTokens: 12 });
  const hello = { type: 'text' as const, text: 'hello world' };
  const asked = [chat(picture('40x30'), hello, picture('200x90')), chat(hello), chat(hello, picture('300x300')), chat(picture('1x1'))];
  await using cpuEngine = closing(await LlmEngine.start({ ...config, plugins: ['@graft/cpu'], weights: 'float32' }));
  await using hpuEngine = closing(
    await LlmEngine.start({ ...config, plugins: ['@graft/llama4-hpu'], platform: 'hpu', onRecompile: 'fail' }),
  );
  const before = await hpuEngine.engine.stats();
  const alone: number[][] = [];
  for (const one of asked) alone.push(await generateIds(cpuEngine.engine, one));
  expect(await Promise.all(asked.map((one) => generateIds(hpuEngine.engine, one)))).toEqual(alone);
  const { captures, compiles, recompiles } = await hpuEngine.engine.stats();
  expect({ captures, compiles, recompiles }).toEqual({ captures: before.captures, compiles: before.compiles, recompiles: 0 });
});

/** The tiles that the published processor makes of a picture; fixtures/images/README.md. */
function publishedTiles(name: string): { pixelValues: Float32Array; tiles: number } {
  const file = openFileBytes(join(fixtures, 'images.safetensors'));
  try {
    const { offset, byteLength, shape } = readSafetensorsHeader(file).tensors.get(`${name}.pixel_values`)!;
    return { pixelValues: aligned(file.read(offset, byteLength), Float32Array).slice(), tiles: shape[0]! };
  } finally {
    file.close();
  }
}

test('a request with images through the server gives the greedy ids that the published tiles give', async () => {
  const config = { model: folderWithImages(), plugins: ['@graft/cpu'], maxSequences: 2, prefillTokens: 7 };
  await using alone = closing(await LlmEngine.start(config));
  await using served = closing(await startEngineWorker(config));
  const app = createApp(served.engine);
  onTestFinished(() => app.close());
  expect(served.engine.info.readsImages).toBe(true);

  const [before, between, after] = ['<s>user: hello', ' world', '</s><s>assistant: '].map((text) => alone.engine.tokenize(text));
  const layout = (rows: number, columns: number): number[] =>
    llama4.images!.layout({ rows, columns }, 4).map((token) => imageTokenIds[token]!);
  const tokenIds = [...(await before!), ...layout(1, 3), ...(await between!), ...layout(1, 1), ...(await after!)];
  const images = [publishedTiles('200x90'), publishedTiles('40x30')];
  const deltas = await collect(alone.engine.generate(request({ tokenIds, images }, { maxTokens: 12, logprobs: 0 })));
  const expected = deltas.flatMap(({ logprobs }) => logprobs!);

  const url = (name: string) => `data:image/png;base64,${readFileSync(join(fixtures, `${name}.png`)).toString('base64')}`;
  const image = (name: string) => ({ type: 'image_url', image_url: { url: url(name) } });
  const content = [{ type: 'text', text: 'hello' }, image('200x90'), { type: 'text', text: ' world' }, image('40x30')];
  const payload = { messages: [{ role: 'user', content }], temperature: 0, ignore_eos: true, max_tokens: 12, logprobs: true };
  const response = await app.inject({ method: 'POST', url: '/v1/chat/completions', payload });
  const { choices, usage } = response.json();
  expect(response.statusCode).toBe(200);
  expect(usage).toEqual({ prompt_tokens: tokenIds.length, completion_tokens: 12, total_tokens: tokenIds.length + 12 });
  const given = choices[0].logprobs.content as TokenLogprob[];
  expect(given.map(({ token }) => token)).toEqual(expected.map(({ token }) => token));
  expect(Math.max(...given.map(({ logprob }, i) => Math.abs(logprob - expected[i]!.logprob)))).toBeLessThan(1e-5);
});

/** An engine that is closed where its scope ends. */
function closing<E extends { close(): Promise<void> }>(engine: E): AsyncDisposable & { engine: E } {
  return { engine, [Symbol.asyncDispose]: () => engine.close() };
}
