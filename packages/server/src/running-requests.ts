import { EventEmitter, once } from 'node:events';
import type { FastifyReply } from 'fastify';
import { ApiError } from './openai/errors.ts';

/** A request in progress. Disposing it says that the engine has finished with it. */
export interface RunningRequest extends Disposable {
  readonly signal: AbortSignal;
  /** Whether the client closed the connection before it had the whole answer. */
  readonly clientGone: boolean;
}

/** The requests in progress. Each is aborted when its client leaves; all are aborted at shutdown. */
export class RunningRequests {
  private readonly controllers = new Set<AbortController>();
  private readonly unsent = new Set<FastifyReply>();
  private readonly sent = new EventEmitter();
  private stopped = false;

  start(reply: FastifyReply): RunningRequest {
    if (this.stopped) throw shuttingDown();
    const controller = new AbortController();
    let clientGone = false;
    reply.raw.once('close', () => {
      this.unsent.delete(reply);
      if (this.unsent.size === 0) this.sent.emit('all');
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

  /** Refuses new requests, aborts all others, and waits until the last answer is sent, at most `graceMs`. */
  async stop(graceMs: number): Promise<void> {
    this.stopped = true;
    for (const controller of this.controllers) controller.abort(shuttingDown());
    if (this.unsent.size > 0) await once(this.sent, 'all', { signal: AbortSignal.timeout(graceMs) }).catch(() => undefined);
  }
}

function shuttingDown(): ApiError {
  return new ApiError({ status: 503, type: 'server_error', code: 'shutting_down', message: 'The server is shutting down.' });
}
