import type { LanguageModel, ModelOutput } from '@graft/core-model';
import { type CaptureCache, type CapturedModel, captureModel, Dim, ops, SymbolicTensor, type Tensor } from '@graft/graph';
import { EngineConfigError } from '../errors.ts';

/** A static shape of a step: what a device that compiles for shapes has a graph for. */
export interface StepShape {
  batch: number;
  /** Tokens of each sequence in this step. */
  sequence: number;
}

/**
 * A language model's step as a graph, for any shape or, with `shape`, for that one (`outputRows` is then `batch`). Inputs: `inputIds` and `positions` `[batch, sequence]`, `logitsIndices [outputRows]` (rows of
 * `[batch * sequence]`), all int64. Outputs: `logits [outputRows, vocabulary]` and, where layers were asked for, `auxHiddenStates.<i> [batch, sequence, hidden]`.
 */
export function captureLanguageModel(model: LanguageModel, cache: CaptureCache, shape?: StepShape): CapturedModel {
  const inputs = stepInputs(shape);
  return captureModel(model, {
    cache,
    batch: inputs.inputIds.dims[0],
    inputs,
    call: (proxy, { inputIds, positions, logitsIndices }) =>
      stepOutputs(proxy, proxy.forward(inputIds, positions, null, null), logitsIndices),
  });
}

/** What every step of a language model brings. */
export function stepInputs(shape?: StepShape) {
  const dim = (name: string, size: number | undefined): Dim => (size === undefined ? Dim.symbol(name) : Dim.of(size));
  const [batch, sequence, outputRows] = [dim('batch', shape?.batch), dim('sequence', shape?.sequence), dim('outputRows', shape?.batch)];
  return {
    inputIds: { dtype: 'int64', dims: [batch, sequence] },
    positions: { dtype: 'int64', dims: [batch, sequence] },
    logitsIndices: { dtype: 'int64', dims: [outputRows] },
  } as const;
}

/** What every step gives: the logits of the rows that were asked for, and the residual streams. */
export function stepOutputs(
  model: LanguageModel,
  output: ModelOutput,
  logitsIndices: Tensor,
): { logits: Tensor; auxHiddenStates: Tensor[] } {
  const [hiddenStates, auxHiddenStates] = lastRankOutput(output);
  const rows = ops.gatherRows({ x: hiddenStates, indices: logitsIndices }); // [outputRows, hidden]
  return { logits: model.computeLogits(rows), auxHiddenStates };
}

function lastRankOutput(output: ModelOutput): [Tensor, Tensor[]] {
  const [result, aux] = Array.isArray(output) ? output : [output, []];
  if (result instanceof SymbolicTensor) return [result, aux];
  throw new EngineConfigError(
    'The model gave intermediate tensors: it is not the last pipeline rank.',
    'pipeline',
    'load it with one rank.',
  );
}
