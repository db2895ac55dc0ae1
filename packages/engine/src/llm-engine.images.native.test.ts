import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { llama4 } from '@graft/core-model';
import sharp from 'sharp';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  collect,
  expectIdle,
  failureOf,
  folderWithImages,
  folderWithTokenizer,
  generateIds,
  idsOf,
  imageTokenIds,
  promptOf,
  request,
  root,
  startTiny,
  type TinyOptions,
  tinyConfig,
} from './engine.fixture.ts';
import { ImageProcessor } from './image/processor.ts';
import { watch } from './interpreter-plugin.fixture.ts';
import { LlmEngine } from './llm-engine.ts';
import type { GenerateRequest } from './request.ts';

beforeEach(() => watch.reset());

const image = (name: string): Uint8Array => new Uint8Array(readFileSync(join(root, 'tests/fixtures/images', `${name}.png`)));
const small = image('40x30'); // one tile
const wide = image('200x90'); // three tiles in a row, and the whole
const square = image('300x300'); // two by two, and the whole

const startImages = (more: TinyOptions = {}) => startTiny({ model: folderWithImages(), maxModelLength: 128, ...more });

type Part = string | Uint8Array;
/** A chat of one message. */
function chat(...parts: Part[]): GenerateRequest['prompt'] {
  const content = parts.map((part) =>
    typeof part === 'string' ? { type: 'text' as const, text: part } : { type: 'image' as const, data: part },
  );
  return { messages: [{ role: 'user', content }] };
}

function notBytes(): GenerateRequest['prompt'] {
  return { messages: [{ role: 'user', content: [{ type: 'image', data: Array.from(small) as unknown as Uint8Array }] }] };
}

/** What follows the prompt. */
async function firstLogits(engine: LlmEngine, prompt: GenerateRequest['prompt']): Promise<Float32Array> {
  let logits = new Float32Array();
  const observer = { onLogits: (_position: number, given: Float32Array) => void (logits = given.slice()) };
  await generateIds(engine, request(prompt, { maxTokens: 1 }), { observer });
  return logits;
}

const patch = imageTokenIds['<|patch|>']!;
const tile = [patch, patch, patch, patch];

describe('a chat with an image', () => {
  test('is the prompt of tokens around tiles that the published processor makes of it', async () => {
    const engine = await startImages();
    const before = await engine.tokenize('<s>user: hello');
    const after = await engine.tokenize(' world</s><s>assistant: ');
    const layout = llama4.images!.layout({ rows: 1, columns: 3 }, 4).map((token) => imageTokenIds[token]!);
    const [processed] = await new ImageProcessor({ tileSide: 56, maxTiles: 4 }).process([wide]);
    const { pixelValues, tiles } = processed!;
    const prompt = { tokenIds: [...before, ...layout, ...after], images: [{ pixelValues, tiles }] };
    const expected = await firstLogits(engine, prompt);
    expect(await firstLogits(engine, chat('hello', wide, ' world'))).toEqual(expected);
    const answer = await collect(engine.generate(request(chat('hello', wide, ' world'))));
    expect(idsOf(answer)).toEqual(await generateIds(engine, request(prompt)));
    expect(answer.at(-1)!.usage.promptTokens).toBe(prompt.tokenIds.length);
    const blank = { ...prompt, images: [{ pixelValues: new Float32Array(pixelValues.length), tiles }] };
    expect(await firstLogits(engine, blank)).not.toEqual(expected);
  });

  test('gives the same answer for any pieces of its prompt, also if one ends inside the image', async () => {
    const asked = request(chat('hello', square, 'the', small));
    const answers: number[][] = [];
    for (const prefillTokens of [128, 7, 3, 1]) answers.push(await generateIds(await startImages({ prefillTokens }), asked));
    expect(new Set(answers.map(String)).size).toBe(1);
  });

  test('takes the order of two images as it stands', async () => {
    const engine = await startImages();
    expect(await firstLogits(engine, chat(small, wide))).not.toEqual(await firstLogits(engine, chat(wide, small)));
  });
});

test('two concurrent sequences with two images each, one of text and one of ids, answer as each alone', async () => {
  const engine = await startImages({ maxSequences: 4 });
  const asked = [
    request(chat(small, 'hello', wide), { maxTokens: 12 }),
    request(promptOf(9), { maxTokens: 12 }),
    request(chat('the', square, small), { maxTokens: 12 }),
    request({ tokenIds: [5, patch, patch, patch, patch, 9], images: [small] }, { maxTokens: 12 }),
  ];
  const alone: number[][] = [];
  for (const one of asked) alone.push(await generateIds(engine, one));
  expect(await Promise.all(asked.map((one) => generateIds(engine, one)))).toEqual(alone);
  expect(new Set(alone.map(String)).size).toBe(4);
  await expectIdle(engine);
});

test('more sequences with images than slots are answered as each alone, and an aborted one does not block the others', async () => {
  const engine = await startImages({ maxSequences: 2 });
  const asked = [chat(small), chat('hello', wide), chat(square), chat('the', small), chat(wide, small)].map((prompt) => request(prompt));
  const alone: number[][] = [];
  for (const one of asked) alone.push(await generateIds(engine, one));
  const controller = new AbortController();
  const all = asked.map((one) => generateIds(engine, one));
  const waiting = generateIds(engine, asked[0]!, { signal: controller.signal });
  controller.abort(new Error('never mind'));
  await expect(waiting).rejects.toThrow('never mind');
  expect(await Promise.all(all)).toEqual(alone);
  expect(await generateIds(engine, asked[0]!)).toEqual(alone[0]);
  await expectIdle(engine);
});

test('decoding sequences continue between the tiles of another one', async () => {
  const engine = await startImages({ prefillTokens: 128 });
  const running = engine.generate(request(promptOf(5), { maxTokens: 60 }));
  await running.next();
  watch.reset();
  await generateIds(engine, request(chat(square), { maxTokens: 1 }));
  const kinds = watch.steps.map(({ inputs }) => ('pixelValues' in inputs ? 'tile' : 'tokens'));
  const between = kinds.slice(kinds.indexOf('tile'), kinds.lastIndexOf('tile') + 1);
  expect(between).toEqual(['tile', 'tokens', 'tile', 'tokens', 'tile', 'tokens', 'tile', 'tokens', 'tile']);
  await running.return();
});

test('an abort while the tower runs frees the slot, and the next request is answered', async () => {
  const engine = await startImages();
  const controller = new AbortController();
  watch.beforeRun = ({ inputs }) => {
    if ('pixelValues' in inputs) controller.abort(new Error('never mind'));
  };
  await expect(collect(engine.generate(request(chat(square)), { signal: controller.signal }))).rejects.toThrow('never mind');
  await expectIdle(engine);
  watch.reset();
  expect(await generateIds(engine, request(chat(square)))).toHaveLength(6);
});

test('an engine that closes while an image is decoded refuses the request', async () => {
  const engine = await LlmEngine.start(tinyConfig({ model: folderWithImages() }));
  const answer = failureOf(collect(engine.generate(request(chat(square)))));
  await engine.close();
  expect((await answer).code).toBe('GRAFT_ENGINE_CLOSED');
});

test('the time to the first token includes the time of the vision tower', async () => {
  const engine = await startImages();
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  watch.beforeRun = ({ inputs }) => {
    if ('pixelValues' in inputs) vi.advanceTimersByTime(100);
  };
  const [first] = await collect(engine.generate(request(chat(square), { maxTokens: 1 })));
  expect(first!.timing!.firstTokenMs).toBe(500); // five tiles
});

describe('an image that cannot be taken', () => {
  test.each<[string, GenerateRequest['prompt'], string, RegExp]>([
    ['a text that is one of the places', chat('hello <|image|>', small), 'GRAFT_IMAGE_PLACES', /2 places[\s\S]*contain 1/],
    ['a text that is one of the tokens', chat('hello <|patch|>', small), 'GRAFT_IMAGE_PLACES', /5 places[\s\S]*need 4/],
    ['ids with too few places', { tokenIds: [3, patch, patch], images: [small] }, 'GRAFT_IMAGE_PLACES', /2 places[\s\S]*need 4/],
    ['nine images', chat(...Array.from({ length: 9 }, () => small)), 'GRAFT_IMAGE_COUNT', /9 images; the limit maxImages is 8/],
    ['a text file', chat(new TextEncoder().encode('hello')), 'GRAFT_IMAGE_TYPE', /messages\[0\]\.content\[0\]/],
    ['half a file', chat(small, square.subarray(0, 800)), 'GRAFT_IMAGE_BROKEN', /messages\[0\]\.content\[1\]/],
    [
      'more than the context holds',
      chat(...Array.from({ length: 6 }, () => square)),
      'GRAFT_PROMPT_TOO_LONG',
      /1\d\d tokens; the context holds 128/,
    ],
    [
      'tiles of another size',
      { tokenIds: [3, ...tile], images: [{ pixelValues: new Float32Array(12), tiles: 1 }] },
      'GRAFT_INVALID_REQUEST',
      /9408 values, not 12/,
    ],
    ['something else than bytes', notBytes(), 'GRAFT_INVALID_REQUEST', /content/],
  ])('is refused: %s', async (_, prompt, code, words) => {
    const engine = await startImages();
    const error = await failureOf(collect(engine.generate(request(prompt))));
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(words)]);
    await expectIdle(engine);
  });

  test('because it is larger than the configured limits: bytes, then pixels', async () => {
    const engine = await startImages({ maxImageBytes: 1000, maxImagePixels: 2000 });
    expect(engine.info.imageLimits).toMatchObject({ maxImageBytes: 1000, maxImagePixels: 2000 });
    expect((await failureOf(collect(engine.generate(request(chat(square)))))).code).toBe('GRAFT_IMAGE_BYTES');
    expect((await failureOf(collect(engine.generate(request(chat(wide)))))).code).toBe('GRAFT_IMAGE_PIXELS');
  });

  test('because the model reads text alone', async () => {
    const engine = await startTiny({ model: folderWithTokenizer() });
    expect(engine.info.readsImages).toBe(false);
    const error = await failureOf(collect(engine.generate(request(chat('what is this?', small)))));
    expect([error.code, error.message]).toEqual(['GRAFT_MODEL_READS_NO_IMAGES', expect.stringContaining('reads no images')]);
    const ids = await failureOf(collect(engine.generate(request({ tokenIds: [5, 6], images: [small] }))));
    expect(ids.code).toBe('GRAFT_MODEL_READS_NO_IMAGES');
  });
});

describe('preprocessor_config.json', () => {
  test('limits the tiles of an image; the default is 16', async () => {
    const large = new Uint8Array(
      await sharp({ create: { width: 224, height: 224, channels: 3, background: '#405060' } })
        .png()
        .toBuffer(),
    );
    const usage = async (config: object): Promise<number> => {
      const model = folderWithImages();
      await writeFile(join(model, 'preprocessor_config.json'), JSON.stringify(config));
      const engine = await startTiny({ model, maxModelLength: 128 });
      onTestFinished(() => engine.close());
      const [delta] = await collect(engine.generate(request(chat(large), { maxTokens: 1 })));
      return delta!.usage.promptTokens;
    };
    const text = (await (await startImages()).tokenize('<s>user: </s><s>assistant: ')).length;
    const framed = text + 3; // start, image, end
    expect(await usage({ max_patches: 1 })).toBe(framed + 4);
    expect(await usage({ max_patches: 4 })).toBe(framed + 4 * 5 + 4); // a separator behind each tile but the whole
    expect(await usage({})).toBe(framed + 16 * 5 + 4);
  });

  test.each([
    ['not JSON', '{', /is not JSON/],
    ['another size of tile', '{"size": {"height": 336, "width": 336}}', /336 x 336[\s\S]*56 x 56/],
    ['a count of 0', '{"max_patches": 0}', /max_patches/],
  ])('that is wrong ends the start: %s', async (_, text, words) => {
    const model = folderWithImages();
    await writeFile(join(model, 'preprocessor_config.json'), text);
    const error = await failureOf(startTiny({ model }));
    expect([error.code, error.message]).toEqual(['GRAFT_ENGINE_CONFIG', expect.stringMatching(words)]);
    expect(watch.programsAlive).toBe(0);
  });
});
