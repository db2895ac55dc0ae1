import { graftError } from '@graft/common';

/** ggml cannot compute an op, or this use of it. */
export class GgmlLoweringError extends graftError('GRAFT_GGML_LOWERING', (what: string, where: string) => ({
  what,
  where,
  fix: 'change the model, use the backend onnxruntime, or lower the op in a plugin.',
})) {}
