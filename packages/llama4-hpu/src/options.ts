import { GraftError } from '@graft/common';
import type { ModelContext } from '@graft/core-model';

/** What `overrideOptions` may say to the overrides of this plugin. */
export interface HpuLlama4Options {
  /** One attention for all layers (compile mode). Default: true; false is what vllm_gaudi does. */
  branchFree: boolean;
}

/** An option that the plugin does not have, or a value that it cannot take. */
export class HpuOptionError extends GraftError {
  constructor(what: string, where = 'overrideOptions', fix = 'give { "branchFree": true } or { "branchFree": false }, or nothing.') {
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
