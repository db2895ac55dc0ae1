import { aligned, partBytes, partsOf, type StorageFormat } from '@graft/graph';
import { at, CheckpointDTypeError } from './errors.ts';
import type { MappedParameter, Segment } from './map-parameters.ts';
import { convert, type Parts, type SourceType, sourceType } from './quantize.ts';
import type { Arrangement } from './rules.ts';

/** A parameter with its storage format. */
export interface PlannedParameter extends MappedParameter {
  readonly format: StorageFormat;
}

/** Converted bytes and where each belongs in its part. */
export interface Piece {
  readonly parts: Parts;
  /** Byte offset in each part. */
  readonly offsets: Readonly<Record<string, number>>;
}

/** Elements converted at a time: a multiple of every block, and short enough for the event loop. */
const pieceElements = 1 << 20;

/**
 * Converts a parameter piece by piece, in order. Only one piece is held at a time (and its matrix, where rows or columns change their places).
 * @throws CheckpointDTypeError, CheckpointCorruptError
 */
export function* convertParameter({ format, shape, segments }: PlannedParameter): Generator<Piece> {
  const bytesPerPart = Object.entries(partsOf(format, shape)).map(([name, part]) => [name, partBytes(part)] as const);
  const total = shape.reduce((product, dim) => product * dim, 1);
  let done = 0;
  for (const segment of segments) {
    const { where, block } = sourceOf(segment);
    let firstElement = segment.first; // of an arranged matrix, errors count blocks in the parameter's order
    for (const bytes of readSegment(segment)) {
      const parts = convert(segment.tensor.dtype, bytes, format, { where, firstElement });
      yield { parts, offsets: Object.fromEntries(bytesPerPart.map(([name, size]) => [name, (done / total) * size])) };
      const elements = (bytes.byteLength / block.bytes) * block.elements;
      firstElement += elements;
      done += elements;
    }
  }
}

/** @throws CheckpointDTypeError for a source that cannot be loaded, before anything is read. */
export function checkSources({ segments }: MappedParameter): void {
  for (const segment of segments) {
    const { tensor, arrangement } = segment;
    const { where, block } = sourceOf(segment);
    if (arrangement === null || (!arrangement.transposed && arrangement.columns % block.elements === 0) || block.elements === 1) continue;
    throw new CheckpointDTypeError(`A tensor of dtype ${tensor.dtype} cannot be transposed without being quantised anew.`, where);
  }
}

function sourceOf({ tensor }: Segment): { where: string; block: SourceType } {
  const where = at(tensor.file.path, tensor.key);
  return { where, block: sourceType(tensor.dtype, where) };
}

/** The segment's bytes in the parameter's order, in pieces of whole blocks. */
function* readSegment(segment: Segment): Generator<Uint8Array> {
  const { tensor, first, elements, arrangement } = segment;
  const { block } = sourceOf(segment);
  const bytesOf = (count: number): number => (count / block.elements) * block.bytes;
  const read = (from: number, count: number): Uint8Array => tensor.file.read(tensor.offset + bytesOf(from), bytesOf(count));
  if (arrangement === null) {
    for (let done = 0; done < elements; done += pieceElements) yield read(first + done, Math.min(pieceElements, elements - done));
    return;
  }
  const { rows, columns, transposed, order } = arrangement;
  const matrix = read(first, rows * columns);
  const atOnce = Math.max(1, Math.floor(pieceElements / (transposed ? rows : columns)));
  for (let row = 0; row < order.length; row += atOnce) {
    const taken = order.slice(row, row + atOnce);
    yield transposed ? columnsOf(matrix, block.bytes, arrangement, taken) : rowsOf(matrix, bytesOf(columns), taken);
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
