import type { FinishReason, TokenLogprob } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { UsageCount } from '../openai/choices.ts';
import { chatLogprobs } from '../openai/logprobs.ts';
import { parseChatCall } from '../openai/schemas.ts';
import { answer, type Serving, type Wording } from './generation.ts';

/**
 * POST /v1/chat/completions
 * @param bodyLimit bytes; images make a chat's body larger than others.
 */
export function chatCompletionsRoute(app: FastifyInstance, serving: Serving, bodyLimit: number): void {
  app.post('/v1/chat/completions', { bodyLimit }, (request, reply) => answer(serving, reply, parseChatCall(request.body), wording));
}

interface Choice {
  text: string;
  logprobs: TokenLogprob[];
  finishReason: FinishReason | null;
}

const wording: Wording = {
  idPrefix: 'chatcmpl',

  async *events(pieces, call, head) {
    const usage = new UsageCount();
    const started = new Set<number>();
    const chunk = (index: number, delta: object, more: object = {}) => ({
      ...head,
      object: 'chat.completion.chunk',
      choices: [{ index, delta, logprobs: null, finish_reason: null, ...more }],
      ...(call.includeUsage ? { usage: null } : {}),
    });
    for await (const piece of pieces) {
      const { index, delta } = piece;
      usage.add(piece);
      if (!started.has(index)) {
        started.add(index);
        yield chunk(index, { role: 'assistant', content: '', refusal: null });
      }
      const logprobs = call.sampling.logprobs === undefined || !delta.logprobs ? {} : { logprobs: chatLogprobs(delta.logprobs) };
      if (delta.text !== '' || 'logprobs' in logprobs) yield chunk(index, { content: delta.text }, logprobs);
      if (delta.finishReason !== null) yield chunk(index, {}, { finish_reason: delta.finishReason, stop_reason: delta.stopReason });
    }
    if (call.includeUsage) yield { ...head, object: 'chat.completion.chunk', choices: [], usage: usage.total() };
  },

  async body(pieces, call, head) {
    const usage = new UsageCount();
    const choices = new Map<number, Choice>();
    for await (const piece of pieces) {
      usage.add(piece);
      const choice = choices.get(piece.index) ?? { text: '', logprobs: [], finishReason: null };
      choices.set(piece.index, choice);
      choice.text += piece.delta.text;
      choice.logprobs.push(...(piece.delta.logprobs ?? []));
      choice.finishReason ??= piece.delta.finishReason;
    }
    return {
      ...head,
      object: 'chat.completion',
      choices: [...choices]
        .sort(([a], [b]) => a - b)
        .map(([index, choice]) => ({
          index,
          message: { role: 'assistant', content: choice.text, refusal: null },
          logprobs: call.sampling.logprobs === undefined ? null : chatLogprobs(choice.logprobs),
          finish_reason: choice.finishReason,
        })),
      usage: usage.total(),
    };
  },
};
