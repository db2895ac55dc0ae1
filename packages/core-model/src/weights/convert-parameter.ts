import { aligned, partBytes, partsOf, type StorageFormat } from '@graft/graph';
import { at, CheckpointDTypeError } from './errors.ts';
import type { MappedParameter, Segment } from './map-parameters.ts';
import { convert, type Parts, sourceLayout } from './quantize.ts';
import type { Arrangement } from './rules.ts';

/** A parameter with the form that it is kept in. */
export interface PlannedParameter extends MappedParameter {
  readonly format: StorageFormat;
}

/** Converted bytes and where each belongs in its part. */
export interface Piece {
  readonly parts: Parts;
  /** Byte offset in each part. */
  readonly offsets: Readonly<Record<string, number>>;
}

/** Elements converted at a time: a multiple of every block, small enough to leave the event loop free in between. */
const pieceElements = 1 << 20;

/**
 * Converts a parameter piece by piece, in order, so that never more than a piece of it is held (and, where rows change their places, their matrix).
 * @throws CheckpointDTypeError, CheckpointCorruptError
 */
export function* convertParameter(parameter: PlannedParameter): Generator<Piece> {
  const bytesPerPart = Object.entries(partsOf(parameter.format, parameter.shape)).map(([name, part]) => [name, partBytes(part)] as const);
  const total = parameter.shape.reduce((product, dim) => product * dim, 1);
  let done = 0;
  for (const segment of parameter.segments) {
    const { arrangement } = segment;
    for (const { parts, elements } of arrangement === null
      ? straight(segment, parameter.format)
      : arranged(segment, arrangement, parameter.format)) {
      yield { parts, offsets: Object.fromEntries(bytesPerPart.map(([name, bytes]) => [name, (done / total) * bytes])) };
      done += elements;
    }
  }
}

/** @throws CheckpointDTypeError for a source that cannot be loaded, before anything is read. */
export function checkSources({ segments }: MappedParameter): void {
  for (const { tensor, arrangement } of segments) {
    const { elements: block } = sourceLayout(tensor.dtype, { path: tensor.file.path, key: tensor.key });
    if (arrangement === null || (!arrangement.transposed && arrangement.columns % block === 0) || block === 1) continue;
    throw new CheckpointDTypeError(
      `A tensor of dtype ${tensor.dtype} cannot be transposed without being quantised anew.`,
      at(tensor.file.path, tensor.key),
    );
  }
}

type Converted = { parts: Parts; elements: number };

function* straight({ tensor, first, elements }: Segment, format: StorageFormat): Generator<Converted> {
  const origin = { path: tensor.file.path, key: tensor.key };
  const block = sourceLayout(tensor.dtype, origin);
  const byteAt = (element: number): number => (element / block.elements) * block.bytes;
  for (let done = 0; done < elements; done += pieceElements) {
    const count = Math.min(pieceElements, elements - done);
    const bytes = tensor.file.read(tensor.offset + byteAt(first + done), byteAt(count));
    yield { parts: convert(tensor.dtype, bytes, format, { ...origin, firstElement: first + done }), elements: count };
  }
}

function* arranged({ tensor, first }: Segment, arrangement: Arrangement, format: StorageFormat): Generator<Converted> {
  const origin = { path: tensor.file.path, key: tensor.key };
  const { rows, columns, transposed, order } = arrangement;
  const block = sourceLayout(tensor.dtype, { ...origin });
  const bytesOf = (elements: number): number => (elements / block.elements) * block.bytes;
  const matrix = tensor.file.read(tensor.offset + bytesOf(first), bytesOf(rows * columns));
  const width = transposed ? rows : columns;
  const atOnce = Math.max(1, Math.floor(pieceElements / width));
  for (let row = 0; row < order.length; row += atOnce) {
    const taken = order.slice(row, row + atOnce);
    const bytes = transposed ? columnsOf(matrix, block.bytes, arrangement, taken) : rowsOf(matrix, bytesOf(columns), taken);
    // Blocks in errors are counted in the parameter's order, which is the only one that has them.
    const parts = convert(tensor.dtype, bytes, format, { ...origin, firstElement: first + row * width });
    yield { parts, elements: taken.length * width };
  }
}

function rowsOf(matrix: Uint8Array, rowBytes: number, rows: readonly number[]): Uint8Array {
  const taken = new Uint8Array(rows.length * rowBytes);
  for (const [i, row] of rows.entries()) taken.set(matrix.subarray(row * rowBytes, (row + 1) * rowBytes), i * rowBytes);
  return taken;
}

/** Columns of a matrix, as rows. */
function columnsOf(matrix: Uint8Array, size: number, { rows, columns }: Arrangement, taken: readonly number[]): Uint8Array {
  const tile = new Uint8Array(taken.length * rows * size);
  const [from, to] =
    size === 2
      ? [aligned(matrix, Uint16Array), new Uint16Array(tile.buffer)]
      : [aligned(matrix, Uint32Array), new Uint32Array(tile.buffer)];
  for (let row = 0; row < rows; row++) {
    const start = row * columns;
    for (const [i, column] of taken.entries()) to[i * rows + row] = from[start + column]!;
  }
  return tile;
}
