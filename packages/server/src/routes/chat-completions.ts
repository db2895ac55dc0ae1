import type { FastifyInstance } from 'fastify';
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

const wording: Wording = {
  idPrefix: 'chatcmpl',
  object: { whole: 'chat.completion', chunk: 'chat.completion.chunk' },
  opening: () => ({ delta: { role: 'assistant', content: '', refusal: null } }),
  piece: (text) => ({ delta: text === null ? {} : { content: text } }),
  whole: (text) => ({ message: { role: 'assistant', content: text, refusal: null } }),
  logprobs: chatLogprobs,
};
