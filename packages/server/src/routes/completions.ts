import type { FastifyInstance } from 'fastify';
import { textLogprobs } from '../openai/logprobs.ts';
import { parseTextCall } from '../openai/schemas.ts';
import { answer, type Serving, type Wording } from './generation.ts';

/** POST /v1/completions */
export function completionsRoute(app: FastifyInstance, serving: Serving): void {
  app.post('/v1/completions', (request, reply) => answer(serving, reply, parseTextCall(request.body), wording));
}

const wording: Wording = {
  idPrefix: 'cmpl',
  object: { whole: 'text_completion', chunk: 'text_completion' },
  opening: (echo) => (echo === null ? null : { text: echo }),
  piece: (text) => ({ text: text ?? '' }),
  whole: (text) => ({ text }),
  logprobs: textLogprobs,
};
