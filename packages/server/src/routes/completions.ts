import type { FastifyInstance } from 'fastify';
import { chatLogprobs, textLogprobs } from '../openai/logprobs.ts';
import { parseChatCall, parseTextCall } from '../openai/schemas.ts';
import { answer, type Serving, type Wording } from './generation.ts';

/**
 * POST /v1/chat/completions and POST /v1/completions
 * @param chatLimit largest body of a chat, in bytes; its images need more room than text.
 */
export function completionRoutes(app: FastifyInstance, serving: Serving, chatLimit: number): void {
  app.post('/v1/chat/completions', { bodyLimit: chatLimit }, ({ body }, reply) => answer(serving, reply, parseChatCall(body), chat));
  app.post('/v1/completions', ({ body }, reply) => answer(serving, reply, parseTextCall(body), text));
}

const chat: Wording = {
  idPrefix: 'chatcmpl',
  object: { whole: 'chat.completion', chunk: 'chat.completion.chunk' },
  opening: () => ({ delta: { role: 'assistant', content: '', refusal: null } }),
  piece: (content) => ({ delta: content === null ? {} : { content } }),
  whole: (content) => ({ message: { role: 'assistant', content, refusal: null } }),
  logprobs: chatLogprobs,
};

const text: Wording = {
  idPrefix: 'cmpl',
  object: { whole: 'text_completion', chunk: 'text_completion' },
  opening: (echo) => (echo === null ? null : { text: echo }),
  piece: (piece) => ({ text: piece ?? '' }),
  whole: (whole) => ({ text: whole }),
  logprobs: textLogprobs,
};
