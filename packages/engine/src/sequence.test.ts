import { describe, expect, test } from 'vitest';
import { chats, smollm2Folder, tokenTexts } from '../../../tests/fixtures/smollm2/load.ts';
import { sharedBy, textOf } from './engine.fixture.ts';
import { PromptImages } from './image/prompt-images.ts';
import type { TokenDelta } from './request.ts';
import { SamplingParams } from './sampling-params.ts';
import { Sequence } from './sequence.ts';
import { readTokenizer } from './text/tokenizer.ts';

const tokenizer = (await readTokenizer(smollm2Folder))!;
const eos = tokenizer.encode('<|im_end|>')[0]!;

/** A sequence of one prompt token whose deltas and errors are kept. */
function sequenceOf(sampling: Partial<SamplingParams> = {}) {
  const deltas: TokenDelta[] = [];
  const errors: unknown[] = [];
  const sequence = new Sequence({
    promptIds: [1],
    images: null,
    sampling: SamplingParams.parse(sampling),
    sink: { push: (delta) => deltas.push(delta), fail: (error) => errors.push(error) },
    shared: sharedBy({ tokenizer, eosTokenIds: new Set([eos]), vocabSize: 49152 }),
  });
  return { sequence, deltas, errors };
}

/** The deltas of an answer that consists of these tokens. */
function deltasOf(ids: readonly number[], sampling: Partial<SamplingParams> = {}): TokenDelta[] {
  const { sequence, deltas } = sequenceOf({ maxTokens: ids.length, ...sampling });
  for (const tokenId of ids) if (!sequence.ended) sequence.emit({ tokenId, logprob: null, top: [] });
  return deltas;
}

describe('the deltas of an answer in the words of a real model', () => {
  test.each(chats)('are together its text: "$user"', ({ greedyIds, greedyText }) => {
    const deltas = deltasOf(greedyIds);
    expect(textOf(deltas)).toBe(greedyText);
    expect(deltas.at(-1)!.finishReason).not.toBeNull();
  });

  test.each(tokenTexts)('never hold half a character: $text', ({ text, ids }) => {
    const deltas = deltasOf(ids, { ignoreEos: true });
    expect(textOf(deltas)).toBe(tokenizer.decode(ids));
    if (!text.includes('\uFFFD')) expect(deltas.some((delta) => delta.text.includes('\uFFFD'))).toBe(false);
  });

  test('end with U+FFFD for a character that stayed incomplete', () => {
    const half = tokenizer.encode('\u{1F98A}').slice(0, 1);
    expect(textOf(deltasOf(half))).toBe('\uFFFD');
  });

  test('stop at the end token, which has no text', () => {
    const deltas = deltasOf([...tokenizer.encode('Paris'), eos, ...tokenizer.encode(' and more')]);
    expect(textOf(deltas)).toBe('Paris');
    expect(deltas.at(-1)).toMatchObject({ text: '', tokenIds: [eos], finishReason: 'stop', stopReason: null });
  });

  test('hold back a possible beginning of a stop string, and release it if no stop string follows', () => {
    const ids = tokenizer.encode('one\n\ntwo\n');
    expect(textOf(deltasOf(ids, { stop: ['\n\nthree'] }))).toBe('one\n\ntwo\n');
    const stopped = deltasOf(ids, { stop: ['\n\ntwo'] });
    expect(textOf(stopped)).toBe('one');
    expect(stopped.at(-1)).toMatchObject({ finishReason: 'stop', stopReason: '\n\ntwo' });
  });
});

test('after a cancel, a late error of the sequence is not reported, and its run is aborted', () => {
  const { sequence, errors } = sequenceOf();
  sequence.cancel();
  sequence.fail(new Error('late'));
  expect([sequence.ended, sequence.abort.signal.aborted, errors]).toEqual([true, true, []]);
});

test('images are freed when the prompt is computed, or when the sequence ends before that', () => {
  const imagesOf = (sequence: Sequence) => {
    let disposed = 0;
    const images = new PromptImages({ images: [], tileDims: [], tokensPerTile: 0, rows: new Int32Array(1) });
    images.permit = { [Symbol.dispose]: () => void disposed++ };
    sequence.images = images;
    return () => disposed;
  };
  const whole = sequenceOf().sequence;
  const afterPrompt = imagesOf(whole);
  whole.advance(1, { vocabSize: 1, logits: new Float32Array(1), auxHiddenStates: [] });
  expect(afterPrompt()).toBe(1);
  whole.cancel();
  expect(afterPrompt()).toBe(1);
  const failing = sequenceOf().sequence;
  const afterError = imagesOf(failing);
  failing.fail(new Error('out of memory'));
  expect(afterError()).toBe(1);
});
