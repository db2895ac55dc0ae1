import type { TokenDelta } from './request.ts';

/** Takes the deltas of one answer as they come. The last one has a finish reason; an error ends the answer too, and whatever comes after an end is nothing. */
export interface AnswerSink {
  push(delta: TokenDelta): void;
  fail(error: unknown): void;
}

/**
 * Reads an answer as it comes: the one queue between the engine's loop, or the port of its worker, and whoever asked. However it ends (return, throw,
 * abort, `break`), what was begun is ended.
 * @param begin starts the answer and gives what ends it early, which must be harmless after the end.
 * @throws what `begin` throws, what the answer failed with, the signal's reason.
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
      const delta = queue.take() ?? (await queue.next());
      yield delta;
      if (delta.finishReason !== null) return;
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

  /** The next delta if it has come. @throws what the answer failed with, also where deltas before that were not read. */
  take(): TokenDelta | undefined {
    if (this.failure !== null) throw this.failure.error;
    return this.deltas.shift();
  }

  async next(): Promise<TokenDelta> {
    for (;;) {
      const delta = this.take();
      if (delta !== undefined) return delta;
      await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }
}
