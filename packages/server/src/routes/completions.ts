import type { FinishReason, TokenLogprob } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { UsageCount } from '../openai/choices.ts';
import { textLogprobs } from '../openai/logprobs.ts';
import { type CompletionCall, parseTextCall } from '../openai/schemas.ts';
import { answer, type Serving, type Wording } from './generation.ts';

/** POST /v1/completions */
export function completionsRoute(app: FastifyInstance, serving: Serving): void {
  app.post('/v1/completions', (request, reply) => answer(serving, reply, parseTextCall(request.body), wording));
}

interface Choice {
  text: string;
  logprobs: TokenLogprob[];
  finishReason: FinishReason | null;
}

const wording: Wording = {
  idPrefix: 'cmpl',

  async *events(pieces, call, head) {
    const usage = new UsageCount();
    const lengths = new Map<number, number>();
    const chunk = (index: number, text: string, more: object = {}) => ({
      ...head,
      object: 'text_completion',
      choices: [{ index, text, logprobs: null, finish_reason: null, ...more }],
      ...(call.includeUsage ? { usage: null } : {}),
    });
    for await (const piece of pieces) {
      const { index, promptIndex, delta } = piece;
      usage.add(piece);
      if (!lengths.has(index)) {
        lengths.set(index, 0);
        if (call.echo) yield chunk(index, echoed(call, promptIndex));
      }
      const offset = lengths.get(index)!;
      const tokens = delta.logprobs ?? [];
      lengths.set(index, offset + tokens.reduce((sum, one) => sum + one.token.length, 0));
      const logprobs = call.sampling.logprobs === undefined || tokens.length === 0 ? {} : { logprobs: textLogprobs(tokens, offset) };
      if (delta.text !== '' || 'logprobs' in logprobs) yield chunk(index, delta.text, logprobs);
      if (delta.finishReason !== null) yield chunk(index, '', { finish_reason: delta.finishReason, stop_reason: delta.stopReason });
    }
    if (call.includeUsage) yield { ...head, object: 'text_completion', choices: [], usage: usage.total() };
  },

  async body(pieces, call, head) {
    const usage = new UsageCount();
    const choices = new Map<number, Choice>();
    for await (const piece of pieces) {
      usage.add(piece);
      const { index, promptIndex, delta } = piece;
      const choice = choices.get(index) ?? { text: call.echo ? echoed(call, promptIndex) : '', logprobs: [], finishReason: null };
      choices.set(index, choice);
      choice.text += delta.text;
      choice.logprobs.push(...(delta.logprobs ?? []));
      choice.finishReason ??= delta.finishReason;
    }
    return {
      ...head,
      object: 'text_completion',
      choices: [...choices]
        .sort(([a], [b]) => a - b)
        .map(([index, choice]) => ({
          index,
          text: choice.text,
          logprobs: call.sampling.logprobs === undefined ? null : textLogprobs(choice.logprobs, 0),
          finish_reason: choice.finishReason,
        })),
      usage: usage.total(),
    };
  },
};

function echoed(call: CompletionCall, promptIndex: number): string {
  const prompt = call.prompts[promptIndex];
  return prompt !== undefined && 'text' in prompt ? prompt.text : '';
}
