import { ConfigInvalidError } from '../errors.ts';

/** A run of layers, the last one excluded. */
export interface LayerRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Which layers a rank holds: as many on each, and what is left over one by one to the ranks before the last, from the second to last backwards (the
 * last has the final norm and the vocabulary besides). vLLM: `get_pp_indices`.
 * @throws ConfigInvalidError when the rank is none of `size`, or there are more ranks than layers.
 */
export function pipelineLayers(count: number, { rank, size }: { rank: number; size: number }): LayerRange {
  const fix = 'use no more ranks than the model has layers, and number them from 0.';
  if (!Number.isInteger(size) || size < 1 || !Number.isInteger(rank) || rank < 0 || rank >= size)
    throw new ConfigInvalidError(`There is no pipeline rank ${rank} of ${size}.`, 'pipeline', fix);
  if (size > count) throw new ConfigInvalidError(`${count} layers cannot be divided over ${size} pipeline ranks.`, 'pipeline', fix);
  const [least, rest] = [Math.floor(count / size), count % size];
  const share = (index: number): number => least + (index < size - 1 && index >= size - 1 - rest ? 1 : 0);
  const start = Array.from({ length: rank }, (_, index) => share(index)).reduce((sum, layers) => sum + layers, 0);
  return { start, end: start + share(rank) };
}
