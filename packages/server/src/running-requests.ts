import { setTimeout as wait } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import { ApiError } from './openai/errors.ts';

/** A request at work; disposing it says that the engine has no more to do for it. */
export interface RunningRequest extends Disposable {
  readonly signal: AbortSignal;
  /** The client closed the connection before it had the whole answer. */
  readonly clientGone: boolean;
}

/** The requests at work, each with its own abort: by its client's leaving, or all together at shutdown. */
export class RunningRequests {
  private readonly controllers = new Set<AbortController>();
  private readonly unsent = new Set<FastifyReply>();
  private stopped = false;

  start(reply: FastifyReply): RunningRequest {
    if (this.stopped) throw shuttingDown();
    const controller = new AbortController();
    let clientGone = false;
    reply.raw.once('close', () => {
      this.unsent.delete(reply);
      clientGone = !reply.raw.writableFinished;
      if (clientGone) controller.abort(new DOMException('The client closed the connection.', 'AbortError'));
    });
    this.unsent.add(reply);
    this.controllers.add(controller);
    return {
      signal: controller.signal,
      get clientGone() {
        return clientGone;
      },
      [Symbol.dispose]: () => {
        this.controllers.delete(controller);
      },
    };
  }

  /** Aborts all, refuses new ones, and waits until the last answer is sent, at most `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    this.stopped = true;
    for (const controller of this.controllers) controller.abort(shuttingDown());
    const until = performance.now() + graceMs;
    while (this.unsent.size > 0 && performance.now() < until) await wait(10);
  }
}

function shuttingDown(): ApiError {
  return new ApiError({ status: 503, type: 'server_error', code: 'shutting_down', message: 'The server is shutting down.' });
}
