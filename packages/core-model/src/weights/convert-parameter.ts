import { aligned, partBytes, partsOf, type StorageFormat } from '@graft/graph';
import { at, CheckpointDTypeError } from './errors.ts';
import type { MappedParameter, Segment } from './mapping.ts';
import { convert, type Parts, sourceLayout } from './quantize.ts';

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
 * Converts a parameter piece by piece, in order, so that never more than a piece of it is held (and, for a transposed expert, its matrix).
 * @throws CheckpointDTypeError, CheckpointCorruptError
 */
export function* convertParameter(parameter: PlannedParameter): Generator<Piece> {
  const bytesPerPart = Object.entries(partsOf(parameter.format, parameter.shape)).map(([name, part]) => [name, partBytes(part)] as const);
  const total = parameter.shape.reduce((product, dim) => product * dim, 1);
  let done = 0;
  for (const segment of parameter.segments) {
    for (const { parts, elements } of segment.transposed === null
      ? straight(segment, parameter.format)
      : transposed(segment, segment.transposed, parameter.format)) {
      yield { parts, offsets: Object.fromEntries(bytesPerPart.map(([name, bytes]) => [name, (done / total) * bytes])) };
      done += elements;
    }
  }
}

/** @throws CheckpointDTypeError for a source that cannot be loaded, before anything is read. */
export function checkSources({ segments }: MappedParameter): void {
  for (const { tensor, transposed } of segments) {
    const layout = sourceLayout(tensor.dtype, { path: tensor.file.path, key: tensor.key });
    if (transposed !== null && layout.elements !== 1) {
      throw new CheckpointDTypeError({
        what: `A tensor of dtype ${tensor.dtype} cannot be transposed without being quantised anew.`,
        where: at(tensor.file.path, tensor.key),
      });
    }
  }
}

type Converted = { parts: Parts; elements: number };

function* straight({ tensor, firstElement, elements }: Segment, format: StorageFormat): Generator<Converted> {
  const origin = { path: tensor.file.path, key: tensor.key };
  const block = sourceLayout(tensor.dtype, origin);
  const byteAt = (element: number): number => (element / block.elements) * block.bytes;
  for (let done = 0; done < elements; done += pieceElements) {
    const count = Math.min(pieceElements, elements - done);
    const bytes = tensor.file.read(tensor.offset + byteAt(firstElement + done), byteAt(count));
    yield { parts: convert(tensor.dtype, bytes, format, { ...origin, firstElement: firstElement + done }), elements: count };
  }
}

function* transposed(
  { tensor, firstElement, elements }: Segment,
  { rows, columns }: { rows: number; columns: number },
  format: StorageFormat,
): Generator<Converted> {
  const origin = { path: tensor.file.path, key: tensor.key, firstElement };
  const { bytes: size } = sourceLayout(tensor.dtype, origin);
  const matrix = tensor.file.read(tensor.offset + firstElement * size, elements * size);
  const columnsAtOnce = Math.max(1, Math.floor(pieceElements / rows));
  for (let column = 0; column < columns; column += columnsAtOnce) {
    const count = Math.min(columnsAtOnce, columns - column);
    const tile = transposeTile(matrix, size, rows, columns, column, count);
    // Blocks in errors are counted in the parameter's order, which is the only one that has them.
    const parts = convert(tensor.dtype, tile, format, { ...origin, firstElement: firstElement + column * rows });
    yield { parts, elements: count * rows };
  }
}

/** Columns `column` to `column + count` of a `[rows, columns]` matrix, as rows. */
function transposeTile(matrix: Uint8Array, size: number, rows: number, columns: number, column: number, count: number): Uint8Array {
  const tile = new Uint8Array(count * rows * size);
  const [from, to] =
    size === 2
      ? [aligned(matrix, Uint16Array), new Uint16Array(tile.buffer)]
      : [aligned(matrix, Uint32Array), new Uint32Array(tile.buffer)];
  for (let row = 0; row < rows; row++) {
    const start = row * columns + column;
    for (let i = 0; i < count; i++) to[i * rows + row] = from[start + i]!;
  }
  return tile;
}
