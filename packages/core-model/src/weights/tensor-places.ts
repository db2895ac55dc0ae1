import type { CheckpointTensor } from './checkpoint.ts';
import { corrupt } from './errors.ts';
import type { FileBytes } from './file-bytes.ts';

/**
 * The bytes of a tensor whose elements lie in blocks.
 * @throws CheckpointCorruptError when no file can hold them.
 */
export function bytesOfTensor(file: FileBytes, key: string, shape: readonly number[], block: { elements: number; bytes: number }): number {
  // A zero must not hide that the rest overflows.
  const elements = shape.reduce((product, dim) => product * Math.max(dim, 1), 1);
  if (!Number.isSafeInteger(elements * block.bytes))
    throw corrupt(file, `The shape [${shape.join(', ')}] has more elements than any file can hold.`, key);
  return shape.includes(0) ? 0 : (elements / block.elements) * block.bytes;
}

/**
 * Checks that no tensor overlaps the header or another tensor, and, unless `holes` are allowed, that tensors fill the file.
 * @throws CheckpointCorruptError
 */
export function checkPlaces(
  file: FileBytes,
  tensors: ReadonlyMap<string, CheckpointTensor>,
  headerBytes: number,
  { holes = false } = {},
): void {
  let end = headerBytes;
  let previous = 'the header';
  for (const { key, offset, byteLength } of [...tensors.values()].sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength)) {
    if (offset < end || (offset > end && !holes)) {
      const fault = offset < end ? 'overlaps' : 'leaves a hole after';
      throw corrupt(file, `The tensor starts at byte ${offset} and ${fault} ${previous}, which ends at ${end}.`, key);
    }
    end = offset + byteLength;
    previous = JSON.stringify(key);
  }
  if (!holes && end !== file.byteLength) throw corrupt(file, `The tensors end at byte ${end} and the file at ${file.byteLength}.`);
}
