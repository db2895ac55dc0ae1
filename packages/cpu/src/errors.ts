import { GraftError } from '@graft/common';

/** A graph uses an op in a way that has no form in ONNX Runtime. */
export class CpuLoweringError extends GraftError {
  constructor(what: string, where: string) {
    super({ code: 'GRAFT_CPU_LOWERING', what, where, fix: 'change the model, or add the form to packages/cpu/src/lowerings.ts.' });
  }
}

/** A step's inputs are missing, of the wrong type or shape, or ask for what the attention kernel cannot do. */
export class CpuStepError extends GraftError {
  constructor(what: string, where: string, fix?: string) {
    super({ code: 'GRAFT_CPU_STEP', what, where, ...(fix !== undefined && { fix }) });
  }
}

/** A step is started while another one runs: they would share caches and output memory. */
export class CpuBusyError extends GraftError {
  constructor() {
    super({ code: 'GRAFT_CPU_BUSY', what: 'A step of this program is still running.', fix: 'await one step before the next.' });
  }
}
