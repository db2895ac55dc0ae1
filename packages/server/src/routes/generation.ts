import { randomUUID } from 'node:crypto';
import type { Engine, FinishReason, GenerateRequest, TokenDelta, TokenLogprob } from '@graft/engine';
import type { FastifyReply } from 'fastify';
import type { ImageHosts } from '../images/fetch-image.ts';
import { resolveImages } from '../images/resolve-images.ts';
import type { ServerMetrics } from '../metrics.ts';
import { ApiError } from '../openai/errors.ts';
import type { CompletionCall } from '../openai/schemas.ts';
import { EventStream } from '../openai/stream.ts';
import type { RunningRequests } from '../running-requests.ts';

/** The shape of a route's answers, the only difference between the two routes. */
export interface Wording {
  idPrefix: string;
  object: { whole: string; chunk: string };
  /** The first chunk of a choice, before its text; null for no such chunk. `echo` is the prompt if it was requested. */
  opening(echo: string | null): object | null;
  /** A chunk with a piece of the text; null for the chunk that ends a choice. */
  piece(text: string | null): object;
  whole(text: string): object;
  /** @param offset characters of the answer's tokens before these. */
  logprobs(tokens: readonly TokenLogprob[], offset: number): object;
}

/** The services behind the routes. */
export interface Serving {
  engine: Engine;
  metrics: ServerMetrics;
  running: RunningRequests;
  imageHosts: ImageHosts;
}

/** One answer to a prompt. `index` counts over all prompts, as OpenAI does: `promptIndex * n + i`. */
interface Choice {
  readonly index: number;
  readonly request: GenerateRequest;
  readonly echo: string | null;
  hasBegun: boolean;
  text: string;
  logprobs: TokenLogprob[];
  /** Characters of the tokens whose log-probabilities were sent already. */
  offset: number;
  finishReason: FinishReason | null;
  usage: TokenDelta['usage'];
}

type Take = (choice: Choice, delta: TokenDelta) => Promise<void> | void;

/**
 * Answers a validated call, streamed or whole. The engine stops at once when the client leaves.
 * @throws ApiError 404 for another model; the errors of `resolveImages` and the engine, for a stream only before its first event.
 */
export async function answer(serving: Serving, reply: FastifyReply, call: CompletionCall, wording: Wording) {
  const { engine, running, imageHosts } = serving;
  const { model } = engine.info;
  if (call.model !== undefined && call.model !== model) throw modelNotFound(call.model, model);
  const head = { id: `${wording.idPrefix}-${randomUUID()}`, created: Math.floor(Date.now() / 1000), model };
  using request = running.start(reply);
  const { signal } = request;
  try {
    const choices = choicesOf(call, await resolveImages(call, engine, imageHosts, signal));
    if (!call.stream) {
      await generate(serving, choices, signal, collect);
      return { ...head, object: wording.object.whole, choices: choices.map(wholeIn(call, wording)), usage: usageOf(choices, call) };
    }
    const stream = new EventStream(reply, signal);
    const chunk = (chosen: object[], usage: object | null) =>
      stream.send({ ...head, object: wording.object.chunk, choices: chosen, ...(call.includeUsage && { usage }) });
    try {
      await generate(
        serving,
        choices,
        signal,
        sendChunks(call, wording, (chosen) => chunk([chosen], null)),
      );
      if (call.includeUsage) await chunk([], usageOf(choices, call));
      return await stream.end();
    } catch (error) {
      return await stream.fail(error);
    }
  } catch (error) {
    // The error is the abort itself, and no client is left to read it.
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

/** Runs all choices at once. On return, throw and abort alike, every choice ends and frees its slot. @throws the first error. */
async function generate({ engine, metrics }: Serving, choices: readonly Choice[], signal: AbortSignal, take: Take): Promise<void> {
  const failed = new AbortController();
  const ended = AbortSignal.any([signal, failed.signal]);
  const run = async (choice: Choice): Promise<void> => {
    let outcome: FinishReason | 'error' | 'abandoned' = 'abandoned';
    try {
      for await (const delta of engine.generate(choice.request, { signal: ended })) {
        choice.usage = delta.usage;
        if (delta.finishReason !== null) {
          outcome = delta.finishReason;
          metrics.observeTimes(delta);
        }
        await take(choice, delta);
      }
    } catch (error) {
      if (!ended.aborted) outcome = 'error';
      failed.abort(error);
    } finally {
      metrics.countAnswer(outcome);
    }
  };
  await Promise.all(choices.map(run));
  failed.signal.throwIfAborted();
}

function choicesOf(call: CompletionCall, prompts: readonly GenerateRequest['prompt'][]): Choice[] {
  const { n, sampling, echo } = call;
  const { seed } = sampling;
  return prompts.flatMap((prompt, promptIndex) =>
    Array.from({ length: n }, (_, i) => ({
      index: promptIndex * n + i,
      // The choices of one prompt share a seed but must differ.
      request: { prompt, sampling: seed === undefined || i === 0 ? sampling : { ...sampling, seed: seed + i } },
      echo: echo && 'text' in prompt ? prompt.text : null,
      hasBegun: false,
      text: '',
      logprobs: [],
      offset: 0,
      finishReason: null,
      usage: { promptTokens: 0, completionTokens: 0 },
    })),
  );
}

function collect(choice: Choice, { text, logprobs = [], finishReason }: TokenDelta): void {
  choice.text += text;
  choice.logprobs.push(...logprobs);
  choice.finishReason = finishReason;
}

function wholeIn({ sampling }: CompletionCall, wording: Wording) {
  return ({ index, echo, text, logprobs, finishReason }: Choice) => ({
    index,
    ...wording.whole((echo ?? '') + text),
    logprobs: sampling.logprobs === undefined ? null : wording.logprobs(logprobs, 0),
    finish_reason: finishReason,
  });
}

function sendChunks({ sampling }: CompletionCall, wording: Wording, send: (chosen: object) => Promise<void>): Take {
  const chosen = (index: number, piece: object, more: object = {}) =>
    send({ index, ...piece, logprobs: null, finish_reason: null, ...more });
  return async (choice, { text, logprobs = [], finishReason, stopReason }) => {
    const { index, offset } = choice;
    const opening = choice.hasBegun ? null : wording.opening(choice.echo);
    choice.hasBegun = true;
    choice.offset += logprobs.reduce((sum, { token }) => sum + token.length, 0);
    if (opening !== null) await chosen(index, opening);
    const asked = sampling.logprobs !== undefined && logprobs.length > 0;
    if (text !== '' || asked) await chosen(index, wording.piece(text), asked ? { logprobs: wording.logprobs(logprobs, offset) } : {});
    if (finishReason !== null) await chosen(index, wording.piece(null), { finish_reason: finishReason, stop_reason: stopReason });
  };
}

/** OpenAI's `usage`; a prompt with `n` choices counts once. */
function usageOf(choices: readonly Choice[], { n }: CompletionCall) {
  const sum = (counts: number[]) => counts.reduce((a, b) => a + b, 0);
  const prompt_tokens = sum(choices.filter(({ index }) => index % n === 0).map(({ usage }) => usage.promptTokens));
  const completion_tokens = sum(choices.map(({ usage }) => usage.completionTokens));
  return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
}
