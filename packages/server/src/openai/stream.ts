import { once } from 'node:events';
import type { FastifyReply } from 'fastify';
import { toApiError } from './errors.ts';

/** Server-sent events, each a JSON object, then `[DONE]`. The first event sends the status line, so an earlier error can still set its status. */
export class EventStream {
  private readonly reply: FastifyReply;
  private readonly signal: AbortSignal;
  private hasBegun = false;
  private drained: Promise<unknown> | null = null;

  /** @param signal aborted when the client has gone, which ends all waiting for it. */
  constructor(reply: FastifyReply, signal: AbortSignal) {
    this.reply = reply;
    this.signal = signal;
  }

  /** Waits while the client reads more slowly than we write. */
  async send(event: object): Promise<void> {
    await this.write(JSON.stringify(event));
  }

  async end(): Promise<void> {
    await this.write('[DONE]');
    this.reply.raw.end();
  }

  /** Sends the error as an event in OpenAI's shape and ends the stream. @throws the error if no event was sent before. */
  async fail(error: unknown): Promise<void> {
    if (!this.hasBegun) throw error;
    const failure = toApiError(error);
    const isHeard = !this.reply.raw.destroyed;
    if (isHeard && failure.status >= 500 && error !== failure) this.reply.log.error({ err: error }, 'a stream ended in an error');
    await this.write(JSON.stringify(failure.body));
    this.reply.raw.end();
  }

  private async write(text: string): Promise<void> {
    const { reply, signal } = this;
    const { raw } = reply;
    if (!this.hasBegun) this.begin();
    if (raw.destroyed || raw.write(`data: ${text}\n\n`) || signal.aborted) return;
    // All choices wait for the same client.
    this.drained ??= once(raw, 'drain', { signal }).catch(() => undefined);
    await this.drained;
    this.drained = null;
  }

  private begin(): void {
    const { reply } = this;
    this.hasBegun = true;
    reply.hijack();
    reply.raw.writeHead(200, {
      ...reply.getHeaders(),
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    } as Record<string, string>);
  }
}
