import { GraftError } from '@graft/common';
import type { ModelContext } from '@graft/core-model';

/** The `overrideOptions` of this plugin. */
export interface HpuLlama4Options {
  /** Makes the attention of all layers alike (compile mode). Default true. vllm_gaudi does not do this. */
  branchFree: boolean;
}

/** An option is unknown or has a wrong value. */
export class HpuOptionError extends GraftError {
  constructor(what: string, where = 'overrideOptions', fix = 'give { "branchFree": true } or { "branchFree": false }, or no options.') {
    super({ code: 'GRAFT_HPU_OPTION', what, where, fix });
  }
}

/** @throws HpuOptionError */
export function hpuOptionsOf({ overrideOptions = {} }: Pick<ModelContext, 'overrideOptions'>): HpuLlama4Options {
  const { branchFree = true, ...others } = overrideOptions;
  const [unknown] = Object.keys(others);
  if (unknown !== undefined) throw new HpuOptionError(`llama4-hpu has no option "${unknown}".`);
  if (typeof branchFree !== 'boolean') throw new HpuOptionError(`branchFree is ${JSON.stringify(branchFree)}, not true or false.`);
  return { branchFree };
}
