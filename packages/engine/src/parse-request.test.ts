import { GraftError } from '@graft/common';
import { expect, test } from 'vitest';
import { parseRequest } from './parse-request.ts';

const text = { text: 'Hello' };
const chat = { messages: [{ role: 'user', content: 'Hello' }] };

/** Each wrong request, the key that its error names, and the fix. */
const mistakes: [request: unknown, where: string, fix: string][] = [
  [{ prompt: text, temperature: 0.5 }, 'temperature', 'write `sampling: { temperature: ... }`.'],
  [{ prompt: text, maxTokens: 5 }, 'maxTokens', 'write `sampling: { maxTokens: ... }`.'],
  [{ prompt: text, max_tokens: 5 }, 'max_tokens', 'write `sampling: { maxTokens: ... }`.'],
  [{ prompt: text, temprature: 1 }, 'temprature', 'did you mean `sampling: { temperature: ... }`?'],
  [{ prompt: { ...text, top_p: 1 } }, 'prompt.top_p', 'write `sampling: { topP: ... }`.'],
  [{ prompt: text, sampling: { top_p: 1 } }, 'sampling.top_p', 'write `sampling: { topP: ... }`.'],
  [{ prompt: text, sampling: { max_completion_tokens: 1 } }, 'sampling.max_completion_tokens', 'write `sampling: { maxTokens: ... }`.'],
  [{ prompt: text, sampling: { temprature: 1 } }, 'sampling.temprature', 'did you mean `sampling: { temperature: ... }`?'],
  [{ ...chat }, 'messages', 'write `prompt: { messages: ... }`.'],
  [{ prompt: chat, tools: [] }, 'tools', 'write `prompt: { tools: ... }`.'],
  [{ prompt: { ...chat, add_generation_prompt: true } }, 'prompt.add_generation_prompt', 'write `prompt: { addGenerationPrompt: ... }`.'],
  [{ prompt: { token_ids: [1] } }, 'prompt.token_ids', 'write `prompt: { tokenIds: ... }`.'],
  [{ prompt: { ...text, tools: [] } }, 'prompt.tools', '`tools` goes with `messages`: write `prompt: { messages: ..., tools: ... }`.'],
  [
    { prompt: { ...text, ...chat } },
    'prompt.messages',
    'a prompt has one of these forms: `prompt: { text: ... }`, `{ tokenIds: ... }` or `{ messages: ... }`.',
  ],
  [{ prompt: 'Hello' }, 'prompt', 'write `prompt: { text: ... }`.'],
  [{ prompt: [1, 2] }, 'prompt', 'write `prompt: { tokenIds: ... }`.'],
  [{ prompt: chat.messages }, 'prompt', 'write `prompt: { messages: ... }`.'],
  [{ prompt: {} }, 'prompt', 'write `prompt: { text: ... }`, `{ tokenIds: ... }` or `{ messages: ... }`.'],
  [{}, 'prompt', 'write `prompt: { text: ... }`, `{ tokenIds: ... }` or `{ messages: ... }`.'],
  ['Hello', 'request', 'write `prompt: { text: ... }`, `{ tokenIds: ... }` or `{ messages: ... }`.'],
  [{ prompt: { tokenIds: 'abc' } }, 'prompt.tokenIds', 'correct the field and send the request again.'],
  [{ prompt: { messages: 'Hello' } }, 'prompt.messages', 'correct the field and send the request again.'],
  [{ prompt: text, sampling: 'greedy' }, 'sampling', 'correct the field and send the request again.'],
  [{ prompt: text, n: 2 }, 'n', 'leave it out, and call `generate` once for each answer.'],
  [{ prompt: text, stream: true }, 'stream', 'leave it out: `generate` always streams.'],
  [{ prompt: text, signal: null }, 'signal', 'pass it in the second argument: `generate(request, { signal })`.'],
];

test.each(mistakes)('%j: the error names %s and says: %s', (request, where, fix) => {
  expect(factsOf(request)).toMatchObject({ code: 'GRAFT_INVALID_REQUEST', where, fix });
});

test('a misplaced key is accepted in the place that its error names', () => {
  const moves = mistakes.flatMap(([request, where, fix]) => {
    const [, place, name] = /^write `(prompt|sampling): \{ (\w+): \.\.\. \}`/.exec(fix) ?? [];
    const key = where.split('.').at(-1)!;
    const given = request as Record<string, Record<string, unknown>>;
    const value = where.includes('.') ? given[where.split('.')[0]!]?.[key] : given[key];
    return place === undefined || value === undefined || where === 'prompt' ? [] : [{ place, name: name!, value }];
  });
  expect(moves.length).toBeGreaterThan(8);
  for (const { place, name, value } of moves) {
    const prompt = place === 'sampling' ? text : { ...(name === 'tokenIds' ? {} : chat), [name]: value };
    const sampling = place === 'sampling' ? { [name]: value } : {};
    expect(() => parseRequest({ prompt, sampling } as never, {})).not.toThrow();
  }
});

function factsOf(request: unknown): unknown {
  try {
    return parseRequest(request as never, {});
  } catch (error) {
    return GraftError.is(error) ? error.toJSON() : error;
  }
}
