import { randomUUID } from 'node:crypto';
import type { Engine } from '@graft/engine';
import type { FastifyReply } from 'fastify';
import type { ImageHosts } from '../images/fetch-image.ts';
import { resolveImages } from '../images/resolve-images.ts';
import { type ChoiceDelta, generateChoices } from '../openai/choices.ts';
import { ApiError } from '../openai/errors.ts';
import type { CompletionCall } from '../openai/schemas.ts';
import { sendEvents } from '../openai/stream.ts';
import type { RunningRequests } from '../running-requests.ts';

/** How a route words its answers; the two routes differ in nothing else. */
export interface Wording {
  idPrefix: string;
  /** The events of a stream. */
  events(pieces: AsyncIterable<ChoiceDelta>, call: CompletionCall, head: AnswerHead): AsyncGenerator<object>;
  /** The body of an answer that is not streamed. */
  body(pieces: AsyncIterable<ChoiceDelta>, call: CompletionCall, head: AnswerHead): Promise<object>;
}

/** What the routes answer from. */
export interface Serving {
  engine: Engine;
  running: RunningRequests;
  imageHosts: ImageHosts;
}

export interface AnswerHead {
  id: string;
  /** Seconds since the epoch. */
  created: number;
  model: string;
}

/**
 * Answers a validated call, streamed or whole. A client that goes away aborts the engine's work at once in both forms.
 * @throws ApiError 404 for a model that is not served; what `resolveImages` and the engine throws before its first piece.
 */
export async function answer({ engine, running, imageHosts }: Serving, reply: FastifyReply, call: CompletionCall, wording: Wording) {
  const { model } = engine.info;
  if (call.model !== undefined && call.model !== model) throw modelNotFound(call.model, model);
  const head = { id: `${wording.idPrefix}-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model };
  using request = running.start(reply);
  try {
    const prompts = await resolveImages(call, engine, imageHosts, request.signal);
    const pieces = generateChoices(engine, { ...call, prompts }, request.signal);
    if (call.stream) return await sendEvents(reply, wording.events(pieces, call, head), request.signal);
    return await wording.body(pieces, call, head);
  } catch (error) {
    // Nobody is there to read an answer; what was thrown is the abort itself.
    if (request.clientGone) return reply.hijack();
    throw error;
  }
}

export function modelNotFound(asked: string, served: string): ApiError {
  return new ApiError({
    status: 404,
    message: `The model '${asked}' is not served here; '${served}' is.`,
    param: 'model',
    code: 'model_not_found',
  });
}
