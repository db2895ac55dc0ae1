import type { Engine, GenerateRequest, TokenDelta } from '@graft/engine';
import type { CompletionCall } from './schemas.ts';

/** A call whose images are there. */
export type ReadyCall = Omit<CompletionCall, 'prompts'> & { prompts: GenerateRequest['prompt'][] };

/** A piece of one choice. `index` counts choices over all prompts, as OpenAI does: `promptIndex * n + i`. */
export interface ChoiceDelta {
  index: number;
  promptIndex: number;
  delta: TokenDelta;
}

/** OpenAI's `usage`; a prompt with `n` choices counts once. */
export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
}

/**
 * Runs every choice of a call at once and yields their pieces as they come. However it ends (return, throw, abort), each
 * choice's generator is returned, so that no slot stays taken.
 * @throws what the engine throws; the other choices are ended first.
 */
export async function* generateChoices(engine: Engine, call: ReadyCall, signal: AbortSignal): AsyncGenerator<ChoiceDelta> {
  const streams = call.prompts.flatMap((prompt, promptIndex) =>
    Array.from({ length: call.n }, (_, i) => {
      const index = promptIndex * call.n + i;
      const request: GenerateRequest = { prompt, sampling: samplingOf(call, i) };
      return { index, promptIndex, deltas: engine.generate(request, { signal }) };
    }),
  );
  const next = (stream: (typeof streams)[number]) => stream.deltas.next().then((result) => ({ stream, result }));
  const pending = new Map(streams.map((stream) => [stream.index, next(stream)]));
  try {
    while (pending.size > 0) {
      const { stream, result } = await Promise.race(pending.values());
      if (result.done === true) {
        pending.delete(stream.index);
        continue;
      }
      yield { index: stream.index, promptIndex: stream.promptIndex, delta: result.value };
      pending.set(stream.index, next(stream));
    }
  } finally {
    for (const one of pending.values()) one.catch(() => undefined);
    await Promise.allSettled(streams.map(({ deltas }) => deltas.return()));
  }
}

/** Choices of one prompt must differ though they share a seed. */
function samplingOf(call: ReadyCall, choice: number): NonNullable<GenerateRequest['sampling']> {
  const { seed } = call.sampling;
  return seed === undefined || choice === 0 ? call.sampling : { ...call.sampling, seed: seed + choice };
}

/** Counts tokens over the pieces of a call. */
export class UsageCount {
  private readonly prompts = new Map<number, number>();
  private readonly completions = new Map<number, number>();

  add({ index, promptIndex, delta }: ChoiceDelta): void {
    this.prompts.set(promptIndex, delta.usage.promptTokens);
    this.completions.set(index, delta.usage.completionTokens);
  }

  total(): Usage {
    const sum = (counts: Map<number, number>) => [...counts.values()].reduce((a, b) => a + b, 0);
    const [prompt_tokens, completion_tokens] = [sum(this.prompts), sum(this.completions)];
    return { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens };
  }
}
