import type { CheckpointTensor } from './checkpoint.ts';
import { at, CheckpointDTypeError, corrupt } from './errors.ts';
import type { FileBytes } from './file-bytes.ts';
import { isObject, parseJsonObject } from './strict-json.ts';
import { bytesOfTensor, checkPlaces } from './tensor-places.ts';

/** The format's own limit. Real headers are far smaller. */
const largestHeader = 100_000_000;

/** Bytes of one element. Some of these dtypes cannot be loaded: `convert` decides that. */
const elementBytes = new Map(
  [
    ['BOOL U8 I8 F8_E4M3 F8_E5M2 F8_E8M0', 1] as const,
    ['U16 I16 F16 BF16', 2] as const,
    ['U32 I32 F32', 4] as const,
    ['U64 I64 F64 C64', 8] as const,
  ].flatMap(([names, bytes]) => names.split(' ').map((name) => [name, bytes] as const)),
);

const openingBrace = 0x7b;

export interface SafetensorsHeader {
  /** In the header's order. */
  tensors: Map<string, CheckpointTensor>;
  /** Bytes before the data: the length field and the JSON. */
  headerBytes: number;
}

/**
 * Reads and checks the header of a safetensors file, and no data. As the format demands, the tensors cover the data up to the end of the file without
 * overlaps or holes.
 * @throws CheckpointCorruptError, CheckpointDTypeError
 */
export function readSafetensorsHeader(file: FileBytes): SafetensorsHeader {
  const length = headerLength(file);
  const headerBytes = 8 + length;
  const dataBytes = file.byteLength - headerBytes;
  const tensors = new Map<string, CheckpointTensor>();
  for (const [key, entry] of Object.entries(parseJsonObject(file.read(8, length), 'The header', file.path))) {
    if (key !== '__metadata__') tensors.set(key, readEntry(file, key, entry, headerBytes, dataBytes));
  }
  checkPlaces(file, tensors, headerBytes);
  return { tensors, headerBytes };
}

function headerLength(file: FileBytes): number {
  if (file.byteLength < 8) throw corrupt(file, `The file has ${file.byteLength} bytes, too few for a safetensors header.`);
  const bytes = file.read(0, 8);
  const length = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(file.byteLength - 8)) {
    throw corrupt(file, `The header should have ${length} bytes; the file has ${file.byteLength - 8} after the length.`);
  }
  if (length > BigInt(largestHeader)) throw corrupt(file, `The header should have ${length} bytes; at most ${largestHeader} are allowed.`);
  if (file.read(8, 1)[0] !== openingBrace) throw corrupt(file, 'The header is not valid JSON: it does not begin with "{".');
  return Number(length);
}

function readEntry(file: FileBytes, key: string, entry: unknown, headerBytes: number, dataBytes: number): CheckpointTensor {
  const field = (name: string): unknown => (isObject(entry) && Object.hasOwn(entry, name) ? entry[name] : undefined);
  const dtype = field('dtype');
  const shape = field('shape');
  const offsets = field('data_offsets');
  if (typeof dtype !== 'string') throw corrupt(file, `"dtype" is ${JSON.stringify(dtype)}, not a name.`, key);
  if (!Array.isArray(shape)) throw corrupt(file, `"shape" is ${JSON.stringify(shape)}, not a list.`, key);
  if (!Array.isArray(offsets) || offsets.length !== 2)
    throw corrupt(file, `"data_offsets" is ${JSON.stringify(offsets)}, not two numbers.`, key);
  const bytes = checkedBytes(file, key, dtype, shape);
  const [start, end] = offsets as unknown[];
  if (!isSize(start) || !isSize(end) || start > end || end > dataBytes) {
    throw corrupt(file, `"data_offsets" is [${String(start)}, ${String(end)}], and the data has ${dataBytes} bytes.`, key);
  }
  if (end - start !== bytes)
    throw corrupt(file, `${dtype} [${shape.join(', ')}] needs ${bytes} bytes, and "data_offsets" span ${end - start}.`, key);
  return { key, dtype, shape: shape as number[], file, offset: headerBytes + start, byteLength: bytes };
}

/** The bytes of a tensor, after its dims and their product are checked. */
function checkedBytes(file: FileBytes, key: string, dtype: string, shape: unknown[]): number {
  const bytes = elementBytes.get(dtype);
  if (bytes === undefined) {
    throw new CheckpointDTypeError(
      `The dtype "${dtype}" is unknown; known are ${[...elementBytes.keys()].join(', ')}.`,
      at(file.path, key),
    );
  }
  if (!shape.every(isSize))
    throw corrupt(file, `The shape ${JSON.stringify(shape)} has a dimension that is not a whole number from 0 to 2^53.`, key);
  return bytesOfTensor(file, key, shape, { elements: 1, bytes });
}

function isSize(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
