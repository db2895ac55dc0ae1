import { describe, expect, test } from 'vitest';
import { chats, smollm2Folder, tokenTexts } from '../../../tests/fixtures/smollm2/load.ts';
import { collect, textOf } from './engine.fixture.ts';
import type { TokenDelta } from './request.ts';
import { Sampler } from './sampler.ts';
import { SamplingParams } from './sampling-params.ts';
import { Sequence } from './sequence.ts';
import { readTokenizer } from './text/tokenizer.ts';

const tokenizer = await readTokenizer(smollm2Folder);
const eos = tokenizer.idOf('<|im_end|>')!;

/** The deltas of an answer that consists of these tokens. */
async function deltasOf(ids: readonly number[], sampling: Partial<SamplingParams> = {}): Promise<TokenDelta[]> {
  const sequence = new Sequence({
    promptIds: [1],
    sampling: SamplingParams.parse({ maxTokens: ids.length, ...sampling }),
    sampler: new Sampler(SamplingParams.parse({}), { vocabSize: tokenizer.vocabSize }),
    tokenizer,
    eosTokenIds: new Set([eos]),
    maxModelLength: 1000,
    observer: {},
  });
  for (const tokenId of ids) if (!sequence.ended) sequence.append({ tokenId, logprob: null, top: [] });
  return collect(sequence.stream);
}

describe('the deltas of an answer in the words of a real model', () => {
  test.each(chats)('are together its text: "$user"', async ({ greedyIds, greedyText }) => {
    const deltas = await deltasOf(greedyIds);
    expect(textOf(deltas)).toBe(greedyText);
    expect(deltas.at(-1)!.finishReason).not.toBeNull();
  });

  test.each(tokenTexts)('never hold half a character: $text', async ({ text, ids }) => {
    const deltas = await deltasOf(ids, { ignoreEos: true });
    expect(textOf(deltas)).toBe(tokenizer.decode(ids));
    if (!text.includes('\uFFFD')) expect(deltas.some((delta) => delta.text.includes('\uFFFD'))).toBe(false);
  });

  test('tell of a character that never became whole', async () => {
    const half = tokenizer.encode('\u{1F98A}').slice(0, 1);
    expect(textOf(await deltasOf(half))).toBe('\uFFFD');
  });

  test('stop at the end token, which has no text', async () => {
    const deltas = await deltasOf([...tokenizer.encode('Paris'), eos, ...tokenizer.encode(' and more')]);
    expect(textOf(deltas)).toBe('Paris');
    expect(deltas.at(-1)).toMatchObject({ text: '', tokenIds: [eos], finishReason: 'stop', stopReason: null });
  });

  test('hold back what may begin a stop string, and give it out when it was none', async () => {
    const ids = tokenizer.encode('one\n\ntwo\n');
    expect(textOf(await deltasOf(ids, { stop: ['\n\nthree'] }))).toBe('one\n\ntwo\n');
    const stopped = await deltasOf(ids, { stop: ['\n\ntwo'] });
    expect(textOf(stopped)).toBe('one');
    expect(stopped.at(-1)).toMatchObject({ finishReason: 'stop', stopReason: '\n\ntwo' });
  });
});

test('a sequence whose reader went away takes no more tokens, and harms nobody who still gives it one', async () => {
  const sequence = new Sequence({
    promptIds: [1],
    sampling: SamplingParams.parse({}),
    sampler: new Sampler(SamplingParams.parse({}), { vocabSize: tokenizer.vocabSize }),
    tokenizer,
    eosTokenIds: new Set(),
    maxModelLength: 10,
    observer: {},
  });
  const cancelled = sequence.stream.cancel();
  expect(sequence.ended).toBe(true);
  expect(sequence.abort.signal.aborted).toBe(true);
  await cancelled;
  sequence.fail(new Error('late'));
});
