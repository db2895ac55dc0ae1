import { GraftError, graftError } from '@graft/common';

/** ggml cannot compute an op, or this use of it. */
export class GgmlLoweringError extends graftError('GRAFT_GGML_LOWERING', (what: string, where: string) => ({
  what,
  where,
  fix: 'change the model, use the backend onnxruntime, or lower the op in a plugin.',
})) {}

/** An option of a GPU's platform is unknown, has a wrong value, or names a device that is not here. */
export class GpuOptionError extends GraftError {
  constructor(what: string, where: string, fix: string) {
    super({ code: 'GRAFT_GPU_OPTION', what, where, fix });
  }
}
