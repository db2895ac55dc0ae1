import type { TokenDelta } from './request.ts';

/** Receives the deltas of one answer. A delta with a finish reason or an error ends the answer; later calls are ignored. */
export interface AnswerSink {
  push(delta: TokenDelta): void;
  fail(error: unknown): void;
}

/**
 * Reads an answer as it arrives. This is the only queue between the engine's loop, or its worker's port, and the caller. Return, throw, abort and `break` all
 * end the answer.
 * @param begin starts the answer and returns a function that ends it early. Calling that function after the end is harmless.
 * @throws the error of `begin` or of the answer; the signal's reason.
 */
export async function* readAnswer(
  begin: (sink: AnswerSink) => () => void,
  signal: AbortSignal | undefined,
): AsyncGenerator<TokenDelta, void, void> {
  signal?.throwIfAborted();
  const queue = new DeltaQueue();
  const end = begin(queue);
  const onAbort = (): void => {
    queue.fail(signal?.reason);
    end();
  };
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    for (;;) {
      const delta = queue.take();
      if (delta === undefined) await queue.change();
      else yield delta;
      if (delta?.finishReason) return;
    }
  } finally {
    signal?.removeEventListener('abort', onAbort);
    end();
  }
}

class DeltaQueue implements AnswerSink {
  private readonly deltas: TokenDelta[] = [];
  private hasEnded = false;
  private failure: { error: unknown } | null = null;
  private wake: (() => void) | null = null;

  push(delta: TokenDelta): void {
    if (this.hasEnded) return;
    this.hasEnded = delta.finishReason !== null;
    this.deltas.push(delta);
    this.wake?.();
  }

  fail(error: unknown): void {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.failure = { error };
    this.wake?.();
  }

  /** The next delta, if one has arrived. @throws the answer's error, even if earlier deltas are unread. */
  take(): TokenDelta | undefined {
    if (this.failure !== null) throw this.failure.error;
    return this.deltas.shift();
  }

  /** Waits for the next delta or the failure. */
  change(): Promise<void> {
    return new Promise((resolve) => (this.wake = resolve));
  }
}
