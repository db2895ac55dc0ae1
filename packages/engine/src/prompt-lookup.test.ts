import { EventBus } from '@graft/common';
import { definePlugin, type Plugin } from '@graft/registry';
import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  collect,
  folderWithTokenizer,
  generateIds,
  promptOf,
  request,
  sharedBy,
  startTiny,
  type TinyOptions,
  textOf,
} from './engine.fixture.ts';
import type { EngineEvents } from './engine.ts';
import { watch } from './interpreter-plugin.fixture.ts';
import type { LlmEngine } from './llm-engine.ts';
import type { LogitsProcessor } from './logits-processors.ts';
import { lookUp, PromptLookup } from './prompt-lookup.ts';
import type { GenerateRequest } from './request.ts';
import { SamplingParams } from './sampling-params.ts';
import { Sequence } from './sequence.ts';
import { Backend, LogitsProcessors } from './tokens.ts';
import { windowPlugin } from './window-plugin.fixture.ts';

const options = { promptLookupMax: 4, promptLookupMin: 2 };

describe('a proposal is', () => {
  test.each([
    ['what followed the latest tokens where they stood before', [1, 2, 3, 4, 5, 1, 2], 3, [3, 4, 5]],
    ['of the longest match, though a shorter one is nearer', [7, 1, 2, 3, 9, 1, 2, 8, 7, 1, 2], 1, [3]],
    ['of the last of two equal matches', [1, 2, 3, 1, 2, 4, 1, 2], 1, [4]],
    ['shorter where the match reaches the end', [5, 6, 5, 6, 5, 6], 4, [5, 6]],
    ['empty where one token alone stood before', [1, 2, 3, 2], 4, []],
    ['empty for a first token', [1], 4, []],
  ])('%s', (_, tokenIds, numSpeculativeTokens, expected) => {
    expect(lookUp(tokenIds, { ...options, numSpeculativeTokens })).toEqual(expected);
  });

  test('of matches within the given lengths', () => {
    const tokenIds = [9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2];
    const first = (more: Partial<typeof options>) => lookUp(tokenIds, { ...options, numSpeculativeTokens: 1, ...more });
    expect([first({}), first({ promptLookupMax: 2 }), first({ promptLookupMin: 4 })]).toEqual([[3], [4], []]);
  });
});

describe('the number of proposed tokens', () => {
  const text = Array.from({ length: 20 }, (_, i) => 10 + i);

  /** Answers with `answer` in steps of `msOf(tokens)`; returns how many tokens each step proposed. */
  function proposalsFor(answer: readonly number[], msOf: (tokens: number) => number, exactRows = 9): number[] {
    const sampling = SamplingParams.parse({ ignoreEos: true });
    const sequence = new Sequence({
      promptIds: text,
      images: null,
      sampling,
      sink: { push: () => undefined, fail: () => undefined },
      shared: sharedBy(),
    });
    const lookup = new PromptLookup({ ...options, numSpeculativeTokens: 4 }, () => exactRows);
    const counts: number[] = [];
    for (let at = 0; at < answer.length; ) {
      const draft = lookup.propose(sequence, Number.POSITIVE_INFINITY);
      let chosen = 0;
      do sequence.emit({ tokenId: answer[at + chosen]!, logprob: null, top: [] });
      while (draft[chosen] === answer[at + chosen++] && at + chosen < answer.length);
      lookup.took(sequence, draft.length, chosen, msOf(1 + draft.length));
      counts.push(draft.length);
      at += chosen;
    }
    return counts;
  }

  const quoted = [...text, ...text, ...text, ...text];
  /** Each pair of tokens of the text stands here too, with another one after it. */
  const other = Array.from({ length: 60 }, (_, i) => [...text.slice(i % 18, (i % 18) + 2), 100 + i]).flat();

  test('is the most allowed for an answer that quotes, where further tokens cost little', () => {
    const counts = proposalsFor(quoted, (tokens) => 10 + tokens);
    expect(Math.max(...counts)).toBe(4);
    expect(counts.length).toBeLessThan(quoted.length / 3);
  });

  test('is zero for an answer that does not follow what it quotes', () => {
    expect(
      proposalsFor(other, (tokens) => 10 + tokens)
        .slice(30)
        .filter((count) => count > 0).length,
    ).toBeLessThan(5);
  });

  test('is zero most of the time where each token costs a run', () => {
    const counts = proposalsFor(other, (tokens) => 10 * tokens);
    expect(counts.slice(30).every((count) => count === 0)).toBe(true);
  });

  test('is zero where runs of several tokens round differently', () => {
    expect(Math.max(...proposalsFor(quoted, (tokens) => 10 + tokens, 1))).toBe(0);
    expect(Math.max(...proposalsFor(quoted, (tokens) => 10 + tokens, 3))).toBe(2);
  });
});

describe('with proposed tokens', () => {
  /** A clock by which a run of several tokens takes as long as one of one token, whatever the machine does. */
  beforeEach(() => {
    let now = 0;
    vi.spyOn(performance, 'now').mockImplementation(() => ++now);
    onTestFinished(() => {
      vi.restoreAllMocks();
      watch.reset();
    });
  });

  /** A prompt that repeats itself, as do the answers of a tiny model. */
  const repeated = [...promptOf(12), ...promptOf(12), ...promptOf(6)];

  async function pair(more: TinyOptions = {}, pluginsInCode: Plugin[] = []): Promise<[plain: LlmEngine, speculative: LlmEngine]> {
    const start = (numSpeculativeTokens: number) => startTiny({ maxModelLength: 200, numSpeculativeTokens, ...more }, { pluginsInCode });
    return [await start(0), await start(5)];
  }

  /** All that a client sees of an answer but the time. */
  const seen = async (engine: LlmEngine, asked: GenerateRequest) =>
    (await collect(engine.generate(asked))).map(({ timing: _, ...delta }) => delta);

  /** Answers of few different tokens, so that lookups find something and are often right. */
  const few = { temperature: 1, seed: 3, maxTokens: 30, logitBias: { 5: 100, 6: 100, 7: 99 } };
  const requests: [string, GenerateRequest][] = [
    ['greedy', request(repeated, { maxTokens: 30 })],
    ['sampled', request(repeated, few)],
    [
      'with penalties',
      request(repeated, { ...few, temperature: 0.5, frequencyPenalty: 0.4, presencePenalty: 0.1, repetitionPenalty: 1.2 }),
    ],
    ['with log-probabilities', request(repeated, { ...few, logprobs: 3, topK: 4, topP: 0.9, minP: 0.01 })],
  ];

  test.each(['dense-tiny', 'scout-tiny', 'llama-rope3'])('%s gives the answers that it gives without', async (name) => {
    const [plain, speculative] = await pair({ name });
    for (const [kind, asked] of requests) expect(await seen(speculative, asked), kind).toEqual(await seen(plain, asked));
    const { numDrafts, numDraftTokens, numAcceptedTokens } = await speculative.stats();
    expect(numDrafts).toBeGreaterThan(0);
    expect(numDraftTokens).toBeGreaterThanOrEqual(numDrafts);
    expect(numAcceptedTokens).toBeGreaterThan(0);
    expect(numAcceptedTokens).toBeLessThanOrEqual(numDraftTokens);
    expect(await plain.stats()).toMatchObject({ numDrafts: 0, numDraftTokens: 0, numAcceptedTokens: 0 });
  });

  test('a layer with a window gives the same answers, over the ends of its chunks', async () => {
    const [plain, speculative] = await pair({ name: 'llama-rope3', prefillTokens: 3 }, [windowPlugin('interpreter')]);
    for (const [kind, asked] of requests) expect(await seen(speculative, asked), kind).toEqual(await seen(plain, asked));
    expect(watch.moves.length).toBeGreaterThan(0);
    expect((await speculative.stats()).numAcceptedTokens).toBeGreaterThan(0);
  });

  test('an answer ends at its limit, at a stop token and at a stop string, and has the same text', async () => {
    const [plain, speculative] = await pair({ model: folderWithTokenizer() });
    const letters = { ...few, logitBias: { 68: 100, 69: 100, 70: 99, 2: 95 } };
    const text = textOf(await collect(plain.generate(request(repeated, letters))));
    const ends = [
      ...[14, 15, 16].map((maxTokens) => ({ maxTokens })),
      ...[18, 21].map((at) => ({ stop: [text.slice(at - 3, at)] })),
      { stopTokenIds: [70] },
      { ignoreEos: false },
    ];
    for (const end of ends) {
      const asked = request(repeated, { ...letters, ...end });
      expect(await seen(speculative, asked)).toEqual(await seen(plain, asked));
    }
    expect((await speculative.stats()).numAcceptedTokens).toBeGreaterThan(0);
  });

  test('a logits processor sees the tokens so far at each one', async () => {
    const taken: number[][] = [];
    const changes: LogitsProcessor = {
      name: 'forbids the last token now and then',
      start: () => {
        const tokenIds: number[] = [];
        taken.push(tokenIds);
        return {
          apply: (logits) => {
            if (tokenIds.length % 7 === 6) logits[tokenIds.at(-1)!] = Number.NEGATIVE_INFINITY;
          },
          take: (tokenId) => void tokenIds.push(tokenId),
        };
      },
    };
    const plugin = definePlugin({ name: 'changes', bind: (bind) => bind.many(LogitsProcessors).toConstantValue(changes) });
    const [plain, speculative] = await pair({}, [plugin]);
    const asked = request(repeated, few);
    expect(await seen(speculative, asked)).toEqual(await seen(plain, asked));
    expect(taken[0]).toEqual(taken[1]);
    expect((await speculative.stats()).numAcceptedTokens).toBeGreaterThan(0);
  });

  test('the context of a model is filled to its last token', async () => {
    const [plain, speculative] = await pair({ maxModelLength: 64 });
    const asked = request(repeated, { maxTokens: 100 });
    const ids = await generateIds(speculative, asked);
    expect(ids).toEqual(await generateIds(plain, asked));
    expect(ids).toHaveLength(34);
  });

  test('a program that does not state that rows agree gets no proposals, and the start says so', async () => {
    const plugin = definePlugin({
      name: 'plain',
      after: ['interpreter'],
      bind(bind) {
        bind.decorate(Backend, (inner) => ({
          name: 'plain',
          async compile(model, compileOptions) {
            const { rowsMayAgree: _, ...program } = await inner.compile(model, compileOptions);
            return program;
          },
        }));
      },
    });
    const warnings: string[] = [];
    const events = new EventBus<EngineEvents>();
    events.on('load:warning', ({ message }) => warnings.push(message));
    const engine = await startTiny({ numSpeculativeTokens: 4 }, { pluginsInCode: [plugin], events });
    await generateIds(engine, request(repeated, { maxTokens: 20 }));
    expect(await engine.stats()).toMatchObject({ numDrafts: 0 });
    expect(warnings).toEqual([expect.stringContaining('rounds differently')]);
  });

  test('fewer tokens to look for than the least are refused', async () => {
    await expect(startTiny({ promptLookupMin: 5 })).rejects.toThrow('promptLookupMin is 5, more than promptLookupMax, which is 4.');
  });

  test('an answer that the client leaves frees its slot, and the next one in it is right', async () => {
    const [plain, speculative] = await pair({ maxSequences: 1 });
    const asked = request(repeated, few);
    let tokens = 0;
    for await (const { tokenIds } of speculative.generate(asked)) {
      tokens += tokenIds.length;
      if (tokens > 20) break;
    }
    const next = request([...promptOf(9, 4), ...promptOf(9, 4)], few);
    expect(await seen(speculative, next)).toEqual(await seen(plain, next));
  });

  test('only an answer that is alone gets proposals, and answers together are the same', async () => {
    const [plain, speculative] = await pair();
    const asked = [0, 1, 2].map((seed) => request([...repeated, ...promptOf(seed + 1, seed)], { ...few, maxTokens: 10 + seed * 15 }));
    const together = (engine: LlmEngine) => Promise.all(asked.map((one) => generateIds(engine, one)));
    const expected = await together(plain);
    watch.steps.length = 0;
    expect(await together(speculative)).toEqual(expected);
    const lengths = watch.steps.map(({ batch, inputs }) => [batch, inputs['inputIds']!.dims[1]!]);
    expect(lengths.filter(([batch]) => batch! > 1).every(([, length]) => length === 1)).toBe(true);
    expect(lengths.some(([batch, length]) => batch === 1 && length! > 1)).toBe(true);
  });
});
