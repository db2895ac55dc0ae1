import type { LanguageModel, ModelOutput } from '@graft/core-model';
import { type CaptureCache, type CapturedModel, captureModel, Dim, ops, SymbolicTensor, type Tensor } from '@graft/graph';
import { EngineConfigError } from '../errors.ts';

/**
 * A language model's step as a graph. Inputs: `inputIds` and `positions` `[batch, sequence]`, `logitsIndices [outputRows]` (rows of
 * `[batch * sequence]`), all int64. Outputs: `logits [outputRows, vocabulary]` and, where layers were asked for, `auxHiddenStates.<i> [batch, sequence, hidden]`.
 */
export function captureLanguageModel(model: LanguageModel, cache: CaptureCache): CapturedModel {
  const [batch, sequence, outputRows] = [Dim.symbol('batch'), Dim.symbol('sequence'), Dim.symbol('outputRows')];
  return captureModel(model, {
    cache,
    batch,
    inputs: {
      inputIds: { dtype: 'int64', dims: [batch, sequence] },
      positions: { dtype: 'int64', dims: [batch, sequence] },
      logitsIndices: { dtype: 'int64', dims: [outputRows] },
    },
    call(proxy, { inputIds, positions, logitsIndices }) {
      const [hiddenStates, auxHiddenStates] = lastRankOutput(proxy.forward(inputIds, positions, null, null));
      const rows = ops.gatherRows({ x: hiddenStates, indices: logitsIndices }); // [outputRows, hidden]
      return { logits: proxy.computeLogits(rows), auxHiddenStates };
    },
  });
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
