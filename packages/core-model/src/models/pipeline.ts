import { ConfigInvalidError } from '../errors.ts';

/**
 * The layers of a rank, from `start` up to but without `end`: equally many on each. The rest goes one by one to the ranks from the second to last backwards, because the last also has the
 * final norm and the vocabulary. vLLM: `get_pp_indices`.
 * @throws ConfigInvalidError for a rank outside 0 to `size` - 1, or more ranks than layers.
 */
export function pipelineLayers(count: number, { rank, size }: { rank: number; size: number }): { start: number; end: number } {
  const fix = 'use no more ranks than the model has layers, and number them from 0.';
  if (!Number.isInteger(size) || size < 1 || !Number.isInteger(rank) || rank < 0 || rank >= size)
    throw new ConfigInvalidError(`Rank ${rank} is not one of ${size} pipeline ranks.`, 'pipeline', fix);
  if (size > count) throw new ConfigInvalidError(`${count} layers cannot be divided over ${size} pipeline ranks.`, 'pipeline', fix);
  const [least, rest] = [Math.floor(count / size), count % size];
  const share = (index: number): number => least + (index < size - 1 && index >= size - 1 - rest ? 1 : 0);
  const start = Array.from({ length: rank }, (_, index) => share(index)).reduce((sum, layers) => sum + layers, 0);
  return { start, end: start + share(rank) };
}
