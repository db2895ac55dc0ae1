import { once } from 'node:events';
import type { FastifyReply } from 'fastify';
import { toApiError } from './errors.ts';

/**
 * Sends server-sent events, each a JSON object, and `[DONE]` after the last. Waits whenever the client reads more slowly
 * than we write. An error after the first event is sent as an event in OpenAI's shape and ends the stream.
 * The first event is awaited before the status line, so that an error before it still gets its own status.
 * @param signal aborted when the client has gone; nothing is written after that.
 */
export async function sendEvents(reply: FastifyReply, events: AsyncGenerator<object>, signal: AbortSignal): Promise<void> {
  const first = await events.next();
  const { raw } = reply;
  reply.hijack();
  raw.writeHead(200, {
    ...reply.getHeaders(),
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-cache, no-transform',
    'x-accel-buffering': 'no',
  } as Record<string, string>);
  const write = async (text: string) => {
    if (!raw.write(`data: ${text}\n\n`) && !signal.aborted) await drained(reply, signal);
  };
  try {
    for (let event = first; event.done !== true; event = await events.next()) {
      if (raw.destroyed) return;
      await write(JSON.stringify(event.value));
    }
    await write('[DONE]');
  } catch (error) {
    if (raw.destroyed) return;
    const failure = toApiError(error);
    if (failure.status >= 500 && error !== failure) reply.log.error({ err: error }, 'a stream ended in an error');
    await write(JSON.stringify(failure.body));
  } finally {
    await events.return(undefined);
    raw.end();
  }
}

async function drained(reply: FastifyReply, signal: AbortSignal): Promise<void> {
  await once(reply.raw, 'drain', { signal }).catch(() => undefined);
}
