import { GraftError } from '@graft/common';

/** A graph uses an op in a way that has no form in ONNX Runtime. */
export class LoweringError extends GraftError {
  constructor(what: string, where: string) {
    super({ code: 'GRAFT_LOWERING', what, where, fix: 'change the model, or add the form to packages/onnx-export/src/lowerings.ts.' });
  }
}
