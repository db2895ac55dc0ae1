import { expect, test } from 'vitest';
import { type AnswerSink, readAnswer } from './answer.ts';
import { collect } from './engine.fixture.ts';
import type { TokenDelta } from './request.ts';

const delta = (tokenId: number, finishReason: TokenDelta['finishReason'] = null): TokenDelta => ({
  text: '',
  tokenIds: [tokenId],
  finishReason,
  stopReason: null,
  usage: { promptTokens: 1, completionTokens: tokenId },
});

/** An answer that the test writes; `ends` counts how often it was ended. */
function answerOf(signal?: AbortSignal) {
  const answer = { ends: 0, sink: null as AnswerSink | null };
  const deltas = readAnswer((sink) => {
    answer.sink = sink;
    return () => void answer.ends++;
  }, signal);
  return Object.assign(answer, { deltas });
}

test('nothing begins before the first delta is requested, and early deltas are kept in order', async () => {
  const answer = answerOf();
  expect(answer.sink).toBeNull();
  const first = answer.deltas.next();
  for (const one of [delta(1), delta(2), delta(3, 'stop')]) answer.sink!.push(one);
  expect((await first).value).toEqual(delta(1));
  expect(await collect(answer.deltas)).toEqual([delta(2), delta(3, 'stop')]);
  expect(answer.ends).toBe(1);
});

test('an error ends the answer at once, even if earlier deltas are unread', async () => {
  const answer = answerOf();
  const first = answer.deltas.next();
  answer.sink!.push(delta(1));
  await first;
  answer.sink!.push(delta(2));
  answer.sink!.fail(new Error('lost'));
  await expect(answer.deltas.next()).rejects.toThrow('lost');
  expect(answer.ends).toBe(1);
});

test('calls after the end have no effect', async () => {
  const answer = answerOf();
  const all = collect(answer.deltas);
  answer.sink!.push(delta(1, 'length'));
  answer.sink!.push(delta(2));
  answer.sink!.fail(new Error('late'));
  expect(await all).toEqual([delta(1, 'length')]);
});

test('an abort ends the answer before the reader gets the error', async () => {
  const controller = new AbortController();
  const answer = answerOf(controller.signal);
  const next = answer.deltas.next();
  controller.abort(new Error('enough'));
  expect(answer.ends).toBe(1);
  await expect(next).rejects.toThrow('enough');
});
