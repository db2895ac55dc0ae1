import type { LlmEngine } from '../llm-engine.ts';
import type { VerifyPrompt } from './prompt.ts';

/** A model's results for a prompt and the tokens after it. */
export interface RecordedRun {
  /** Computed tokens: all but the last one of the answer. */
  readonly tokens: number;
  /** The features of the prompt's image, `[its tokens, hidden]`; null without an image. */
  readonly image: Float32Array | null;
  /** The residual stream that enters each layer, and the one that leaves the last: each `[tokens, hidden]`. */
  readonly streams: readonly Float32Array[];
  /** `[vocabulary]` for each token of the answer. */
  readonly logits: readonly Float32Array[];
  /** The token with the largest logit in each row of `logits`: the model's own choice, even if another token was forced. */
  readonly greedy: readonly number[];
}

export interface RecordOptions {
  prompt: VerifyPrompt;
  /** Tokens of the answer. */
  maxTokens: number;
  /** The forced answer, so that two runs stay comparable after their first difference. Null: the greedy answer. */
  answer: readonly number[] | null;
  signal?: AbortSignal;
}

/** Runs a prompt and records all that is compared. The engine's auxiliary hidden states must include every layer. */
export async function recordRun(
  engine: LlmEngine,
  { prompt: { ids, image }, maxTokens, answer, signal }: RecordOptions,
): Promise<RecordedRun> {
  const tokens = ids.length + maxTokens - 1;
  let features: Float32Array | null = null;
  let streams: Float32Array[] = [];
  const logits: Float32Array[] = [];
  const observer = {
    onImageFeatures: (all: Float32Array): void => void (features = all.slice()),
    ...(answer !== null && { forcedTokenIds: answer }),
    onLogits: (_position: number, row: Float32Array): void => void logits.push(row.slice()),
    onAuxHiddenStates: (start: number, count: number, states: readonly Float32Array[]): void => {
      if (streams.length === 0) streams = states.map(({ length }) => new Float32Array((length / count) * tokens));
      for (const [i, state] of states.entries()) streams[i]!.set(state, (state.length / count) * start);
    },
  };
  const images = image === null ? {} : { images: [{ pixelValues: image.pixelValues, tiles: 1 }] };
  const request = { prompt: { tokenIds: [...ids], ...images }, sampling: { temperature: 0, ignoreEos: true, maxTokens } };
  for await (const _ of engine.generate(request, { observer, ...(signal !== undefined && { signal }) })) {
    // The observer records the results.
  }
  return { tokens, image: features, streams, logits, greedy: logits.map(largestIndex) };
}

function largestIndex(values: Float32Array): number {
  let largest = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[largest]!) largest = i;
  return largest;
}
