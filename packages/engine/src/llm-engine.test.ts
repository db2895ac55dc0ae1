import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { readReferenceCase } from '../../../tests/parity/reference-case.ts';
import {
  caseFolder,
  collect,
  failureOf,
  folderWithTokenizer,
  generateIds,
  idsOf,
  promptOf,
  request,
  startTiny,
  textOf,
  tinyConfig,
} from './engine.fixture.ts';
import { watch } from './interpreter-plugin.fixture.ts';
import { LlmEngine } from './llm-engine.ts';
import type { GenerateRequest, Prompt } from './request.ts';
import { readTokenizer, type Tokenizer } from './text/tokenizer.ts';

afterEach(() => watch.reset());

describe('requests together', () => {
  const prompts = [promptOf(20, 1), promptOf(3, 2), promptOf(9, 3), promptOf(17, 4), promptOf(1, 5)];
  const samplings: [string, (i: number) => GenerateRequest['sampling']][] = [
    ['greedy', () => ({ maxTokens: 8 })],
    ['with a seed', (i) => ({ maxTokens: 8, temperature: 1, seed: i })],
    [
      'with a seed and penalties',
      (i) => ({ maxTokens: 8, temperature: 0.8, topP: 0.9, presencePenalty: 1, repetitionPenalty: 1.2, seed: i }),
    ],
  ];

  test.each(samplings)('give the same tokens as each alone, %s, even if they outnumber the slots', async (_, sampling) => {
    const engine = await startTiny({ name: 'scout-tiny' });
    const requests = prompts.map((prompt, i) => request(prompt, sampling(i)!));
    const alone: number[][] = [];
    for (const one of requests) alone.push(await generateIds(engine, one));
    watch.steps.length = 0;
    const together = await Promise.all(requests.map((one) => generateIds(engine, one)));
    expect(together).toEqual(alone);
    expect(new Set(alone.map(String)).size).toBe(prompts.length);
    expect(Math.max(...watch.steps.map(({ batch }) => batch))).toBe(3);
  });

  test('are served in the order of arrival', async () => {
    const engine = await startTiny({ maxSequences: 1 });
    const order: number[] = [];
    await Promise.all([0, 1, 2].map((i) => generateIds(engine, request(promptOf(2, i), { maxTokens: 2 })).then(() => order.push(i))));
    expect(order).toEqual([0, 1, 2]);
  });

  test('are prefilled in pieces, and a long prompt delays decoding sequences by one piece at most', async () => {
    const engine = await startTiny({ maxModelLength: 128 });
    const short = generateIds(engine, request(promptOf(2), { maxTokens: 30 }));
    await expect.poll(() => watch.steps.length, { interval: 1 }).toBeGreaterThan(3);
    const first = watch.steps.length;
    await generateIds(engine, request(promptOf(60, 1), { maxTokens: 1 }));
    await short;
    const lengths = watch.steps.slice(first).map(({ inputs }) => inputs['inputIds']!.dims[1]!);
    expect(lengths.filter((length) => length > 1)).toEqual([8, 8, 8, 8, 8, 8, 8, 4]);
    expect(lengths.join(' ')).not.toMatch(/8 8/);
  });
});

test('a text gets the beginning token unless the request says no, a chat only if it says so, and none gets it twice', async () => {
  const model = folderWithTokenizer();
  const file = join(model, 'tokenizer.json');
  const single = [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }];
  const json = JSON.parse(readFileSync(file, 'utf8'));
  writeFileSync(file, JSON.stringify({ ...json, post_processor: { type: 'TemplateProcessing', single } }));
  const engine = await LlmEngine.start(tinyConfig({ model }));
  onTestFinished(() => engine.close());
  const lengthOf = async (prompt: Prompt) => (await collect(engine.generate(request(prompt)))).at(-1)!.usage.promptTokens;
  const bare = await lengthOf({ text: 'hello', addSpecialTokens: false });
  expect(await lengthOf({ text: 'hello' })).toBe(bare + 1);
  expect(await lengthOf({ text: '<s>hello' })).toBe(bare + 1);
  const messages = [{ role: 'user', content: 'hello' }];
  const chat = await lengthOf({ messages });
  expect(await lengthOf({ messages, addSpecialTokens: true })).toBe(chat); // the template begins with <s>
});

describe('an answer', () => {
  let engine: LlmEngine;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const model = folderWithTokenizer();
    tokenizer = (await readTokenizer(model))!;
    engine = await LlmEngine.start(tinyConfig({ model }));
    return () => engine.close();
  });
  const wild = { temperature: 3, seed: 4, maxTokens: 24 } as const;

  test('is the text of its tokens, delta by delta, with usage and times at the end', async () => {
    const deltas = await collect(engine.generate(request({ text: 'hello world' }, wild)));
    const ids = idsOf(deltas);
    expect(textOf(deltas)).toBe(tokenizer.decode(ids));
    expect(deltas.map(({ usage }) => usage.completionTokens)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
    expect(deltas.at(-1)!.usage.promptTokens).toBe(tokenizer.encode('hello world').length);
    expect(deltas.slice(0, -1).every(({ finishReason, timing }) => finishReason === null && timing === undefined)).toBe(true);
    const { queuedMs, firstTokenMs, totalMs } = deltas.at(-1)!.timing!;
    expect(0 <= queuedMs && queuedMs < firstTokenMs && firstTokenMs < totalMs).toBe(true);
  });

  test('follows generation_config.json where the request is silent, and the request where it speaks', async () => {
    const model = folderWithTokenizer();
    writeFileSync(join(model, 'generation_config.json'), JSON.stringify({ temperature: 0, eos_token_id: 7 }));
    const silent = { prompt: { text: 'hello' }, sampling: { maxTokens: 6, ignoreEos: true } };
    const greedy = await generateIds(engine, { ...silent, sampling: { ...silent.sampling, temperature: 0 } });
    const own = await startTiny({ model });
    expect(own.info.generationDefaults).toEqual({ sampling: { temperature: 0 }, eosTokenIds: [7] });
    expect(await generateIds(own, silent)).toEqual(greedy);
    const sampled = { ...silent, sampling: { ...wild, ignoreEos: true } };
    expect(await generateIds(own, sampled)).toEqual(await generateIds(engine, sampled));
    const off = await startTiny({ model, generationConfig: 'none' });
    expect(off.info.generationDefaults).toEqual({ sampling: {}, eosTokenIds: [] });
  });

  test('renders tools and calls, and a template that fails is an error with its line', async () => {
    const model = folderWithTokenizer();
    const template =
      '{% for t in tools or [] %}{{ t.name }}{% endfor %}{% for m in messages %}{{ m.content }}{{ m.tool_calls[0].id }}\n{{ extra.x }}{% endfor %}';
    writeFileSync(join(model, 'tokenizer_config.json'), JSON.stringify({ chat_template: template }));
    const own = await startTiny({ model });
    const messages = [{ role: 'assistant', content: 'a', tool_calls: [{ id: 'c' }] }];
    const chat = { messages, tools: [{ name: 't' }], variables: { extra: { x: 'e' } } };
    expect(await generateIds(own, request(chat))).toEqual(await generateIds(own, request({ text: 'tac\ne' })));
    await expect(collect(own.generate(request({ messages })))).rejects.toThrow(
      "'extra' is undefined, in line 2: {{ extra.x }}{% endfor %}",
    );
  });

  test('continues a chat as the template writes it', async () => {
    const messages = [{ role: 'user', content: 'hello' }];
    const chat = await generateIds(engine, request({ messages }));
    const text = await generateIds(engine, request({ text: '<s>user: hello</s><s>assistant: ' }));
    expect(chat).toEqual(text);
  });

  test('ends before a stop string, and names it', async () => {
    const whole = textOf(await collect(engine.generate(request({ text: 'the' }, wild))));
    const stop = whole.slice(9, 12);
    const deltas = await collect(engine.generate(request({ text: 'the' }, { ...wild, stop: ['never met', stop] })));
    expect(textOf(deltas)).toBe(whole.slice(0, whole.indexOf(stop)));
    expect(deltas.at(-1)).toMatchObject({ finishReason: 'stop', stopReason: stop });
    expect(deltas.length).toBeLessThan(24);
  });

  const forced = [70, 71, 2, 72, 73, 74];
  test.each([
    ['at the end token', { ignoreEos: false }, 3, 'stop', null, 'CD'],
    ['after it when told so', { maxTokens: 5 }, 5, 'length', null, 'CDEF'],
    ['at a stop token, which is not part of the text', { stopTokenIds: [71] }, 2, 'stop', 71, 'C'],
    ['at the end token as such, even if it is also a stop token', { ignoreEos: false, stopTokenIds: [2] }, 3, 'stop', null, 'CD'],
    ['after maxTokens', { maxTokens: 2 }, 2, 'length', null, 'CD'],
  ] as const)('ends %s', async (_, sampling, count, finishReason, stopReason, text) => {
    const asked = request({ text: 'a' }, { ...sampling, stopTokenIds: [...('stopTokenIds' in sampling ? sampling.stopTokenIds : [])] });
    const deltas = await collect(engine.generate(asked, { observer: { forcedTokenIds: forced } }));
    expect(idsOf(deltas)).toEqual(forced.slice(0, count));
    expect(textOf(deltas)).toBe(text);
    expect(deltas.at(-1)).toMatchObject({ finishReason, stopReason });
  });

  test('ends with reason "length" when the context is full', async () => {
    const sampling = { temperature: 0, ignoreEos: true };
    const fill = async (length: number) => await collect(engine.generate({ prompt: { tokenIds: promptOf(length) }, sampling }));
    const deltas = await fill(60);
    expect([deltas.length, deltas.at(-1)!.finishReason]).toEqual([4, 'length']);
    expect((await fill(63)).length).toBe(1);
  });

  test('reports the model’s log-probabilities', async () => {
    const rows: Float32Array[] = [];
    const observer = { onLogits: (_: number, logits: Float32Array) => void rows.push(logits.slice()) };
    const deltas = await collect(engine.generate(request(promptOf(5), { ...wild, maxTokens: 4, logprobs: 3 }), { observer }));
    for (const [i, { tokenIds, logprobs }] of deltas.entries()) {
      const row = rows[i]!;
      const normalizer = Math.log(row.reduce((mass, logit) => mass + Math.exp(logit), 0));
      const [only] = logprobs!;
      expect(logprobs!.length).toBe(1);
      expect(only!.tokenId).toBe(tokenIds[0]);
      expect(only!.logprob).toBeCloseTo(row[only!.tokenId]! - normalizer, 5);
      expect(only!.token).toBe(tokenizer.decode(tokenIds, { skipSpecialTokens: false }));
      expect(only!.top.map(({ logprob }) => logprob)).toEqual(
        Array.from(row, (logit) => logit - normalizer)
          .sort((a, b) => b - a)
          .slice(0, 3)
          .map((value) => expect.closeTo(value, 5)),
      );
    }
  });

  test('reports and counts a forced token like a sampled one', async () => {
    const sampling = { maxTokens: 6, presencePenalty: 2, logprobs: 0 };
    const free = await collect(engine.generate(request(promptOf(5), sampling)));
    const same = await collect(engine.generate(request(promptOf(5), sampling), { observer: { forcedTokenIds: idsOf(free) } }));
    expect(same.map(({ logprobs }) => logprobs)).toEqual(free.map(({ logprobs }) => logprobs));
    const first = [(idsOf(free)[0]! + 1) % 300];
    const other = await collect(engine.generate(request(promptOf(5), sampling), { observer: { forcedTokenIds: first } }));
    expect(other[0]!.logprobs![0]!.tokenId).toBe(first[0]);
    expect(other[0]!.logprobs![0]!.logprob).toBeLessThan(free[0]!.logprobs![0]!.logprob);
  });

  test('the engine tokenizes as the tokenizer does', async () => {
    expect(await engine.tokenize('hello the world')).toEqual(tokenizer.encode('hello the world'));
  });

  test.each<[string, GenerateRequest, string, RegExp]>([
    ['a prompt as long as the context', request(promptOf(64)), 'GRAFT_PROMPT_TOO_LONG', /64 tokens; the context holds 64/],
    ['a text that cannot fit', request({ text: 'a'.repeat(1e6) }), 'GRAFT_PROMPT_TOO_LONG', /at least 64 tokens/],
    ['a chat that cannot fit', request({ messages: [{ role: 'user', content: '?'.repeat(1e6) }] }), 'GRAFT_PROMPT_TOO_LONG', /at least 64/],
    ['a token that the model lacks', request([5, 320]), 'GRAFT_TOKEN_OUT_OF_RANGE', /Token 320 .* has 320/],
    ['a negative token', request([5, -1]), 'GRAFT_INVALID_REQUEST', /where: prompt\.tokenIds\.1/],
    ['half a token', request([1.5]), 'GRAFT_INVALID_REQUEST', /where: prompt\.tokenIds\.0/],
    ['an empty list of tokens', request([]), 'GRAFT_INVALID_REQUEST', /where: prompt\.tokenIds/],
    ['an empty text', request({ text: '' }), 'GRAFT_INVALID_REQUEST', /prompt is empty/],
    ['no messages', request({ messages: [] }), 'GRAFT_INVALID_REQUEST', /where: prompt\.messages/],
    ['a sampling value out of range', request([5], { topP: 2 }), 'GRAFT_INVALID_REQUEST', /<=1[\s\S]*where: sampling\.topP/],
    [
      'a sampling key that is none',
      request([5], { topp: 1 } as object),
      'GRAFT_INVALID_REQUEST',
      /sampling\.topp[\s\S]*mean `sampling: \{ topP: /,
    ],
    ['an empty stop string', request([5], { stop: [''] }), 'GRAFT_INVALID_REQUEST', /where: sampling\.stop\.0/],
    ['a bias for a token that the model lacks', request([5], { logitBias: { 320: 1 } }), 'GRAFT_LOGIT_BIAS_TOKEN', /320/],
  ])('%s is refused before anything runs, and the next request is served', async (_, asked, code, words) => {
    const error = await failureOf(generateIds(engine, asked));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(words);
    expect(watch.steps).toEqual([]);
    expect((await generateIds(engine, request(promptOf(4), { maxTokens: 1 }))).length).toBe(1);
    expect(await engine.stats()).toMatchObject({ running: 0, waiting: 0, freeSlots: 3 });
  });
});

test('without a tokenizer, token ids are served and text is refused', async () => {
  const engine = await startTiny();
  expect((await generateIds(engine, request(promptOf(4)))).length).toBe(6);
  expect((await failureOf(generateIds(engine, request({ text: 'a' })))).code).toBe('GRAFT_NO_TOKENIZER');
  expect((await failureOf(engine.tokenize('a'))).code).toBe('GRAFT_NO_TOKENIZER');
  const chat = await failureOf(generateIds(engine, request({ messages: [{ role: 'user', content: 'a' }] })));
  expect(chat.message).toMatch(/no chat template/);
});

test('the first tokens of the reference case are those that the published implementation gives', async () => {
  const reference = await readReferenceCase(caseFolder('scout-tiny'));
  const engine = await startTiny({ name: 'scout-tiny', maxModelLength: 200 });
  const ids = await generateIds(engine, request(reference.inputIds[0]!, { maxTokens: 3 }));
  expect(ids).toEqual(reference.decodeIds[0]!.slice(0, 3));
});

describe('closing', () => {
  test('ends running and waiting requests with an error and frees the program, and a second close is harmless', async () => {
    const alive = watch.programsAlive;
    const engine = await startTiny({ maxSequences: 1 });
    const running = failureOf(generateIds(engine, request(promptOf(4), { maxTokens: 50 })));
    const waiting = failureOf(generateIds(engine, request(promptOf(4), { maxTokens: 50 })));
    await expect.poll(() => watch.steps.length, { interval: 1 }).toBeGreaterThan(1);
    const [first, second] = [engine.close(), engine.close()];
    expect((await running).code).toBe('GRAFT_ENGINE_CLOSED');
    expect((await waiting).code).toBe('GRAFT_ENGINE_CLOSED');
    await second;
    expect(watch.programsAlive).toBe(alive);
    await first;
    expect((await failureOf(generateIds(engine, request(promptOf(4))))).code).toBe('GRAFT_ENGINE_CLOSED');
  });
});

test('counts computed and generated tokens, and captures nothing while it serves', async () => {
  const engine = await startTiny();
  const { captures, compiles } = await engine.stats();
  await generateIds(engine, request(promptOf(10), { maxTokens: 4 }));
  expect(await engine.stats()).toMatchObject({ promptTokens: 10, generationTokens: 4, captures, compiles, recompiles: 0 });
  expect(engine.info).toMatchObject({ model: 'dense-tiny', vocabSize: 320, maxModelLength: 64, maxSequences: 3, hasChatTemplate: false });
});
