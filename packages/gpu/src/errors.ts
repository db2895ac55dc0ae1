import { graftError } from '@graft/common';

/** An op, or a use of it, that cannot be computed by ggml. */
export class GgmlLoweringError extends graftError('GRAFT_GGML_LOWERING', (what: string, where: string) => ({
  what,
  where,
  fix: 'change the model, use the backend onnxruntime, or lower the op in a plugin.',
})) {}
