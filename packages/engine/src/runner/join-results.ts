import type { RunResult } from './model-runner.ts';
import type { StepPiece } from './step-pieces.ts';

/** The result of a step from those of its pieces, in their order. */
export function joinResults(results: readonly { piece: Pick<StepPiece, 'keepsLogits'>; result: RunResult }[]): RunResult {
  const { vocabSize, auxHiddenStates } = results[0]!.result;
  return {
    vocabSize,
    logits: joined(results.filter(({ piece }) => piece.keepsLogits).map(({ result }) => result.logits)),
    auxHiddenStates: auxHiddenStates.map((_, layer) => joined(results.map(({ result }) => result.auxHiddenStates[layer]!))),
  };
}

/** One after the other. */
export function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
