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

/** A model does not fit into the memory of a GPU. */
export class GpuMemoryError extends graftError(
  'GRAFT_GPU_MEMORY',
  ({ weightBytes, cacheBytes, free, total }: Record<'weightBytes' | 'cacheBytes' | 'free' | 'total', number>, where: string) => ({
    what:
      `The model needs ${gibibytes(weightBytes + cacheBytes)} (weights ${gibibytes(weightBytes)}, caches ${gibibytes(cacheBytes)}) and memory for its ` +
      `activations; ${gibibytes(free)} of ${gibibytes(total)} are free.`,
    where,
    fix: 'serve fewer sequences (--max-sequences), shorter ones (--max-model-length), or a file with fewer bits.',
  }),
) {}

/** Bytes in words: `5.2 GiB`. */
export function gibibytes(bytes: number): string {
  return bytes < 2 ** 30 / 10 ? `${(bytes / 2 ** 20).toFixed(0)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
