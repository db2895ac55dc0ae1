import { graftError } from '@graft/common';

/** An op, or a use of it, that cannot be written as ONNX. */
export class LoweringError extends graftError('GRAFT_LOWERING', (what: string, where: string) => ({
  what,
  where,
  fix: 'change the model, or lower the op in a plugin.',
})) {}
