import type { CheckpointTensor } from './checkpoint.ts';
import { at, CheckpointCorruptError, GgufUnsupportedError } from './errors.ts';
import type { FileBytes } from './file-bytes.ts';
import { GgufCursor } from './gguf-cursor.ts';
import { sourceLayouts } from './quantize.ts';

/*
 * A reader of our own, because @huggingface/gguf 0.4.6 trusts the file: it parses zeros where a file is truncated (its buffer grows in steps of
 * 2 MB), cuts strings short at the buffer's end, lets a second tensor or key of the same name replace or join the first, keeps metadata in a plain
 * object (`__proto__`), and checks neither data offsets nor sizes nor types nor that the alignment is a power of two.
 */

export interface GgufHeader {
  /** Arrays are plain arrays; whole numbers beyond 2^53 are bigint. */
  metadata: Map<string, unknown>;
  tensors: Map<string, CheckpointTensor>;
  /** Bytes before the data. */
  headerBytes: number;
}

/** Reads and checks a GGUF's header (version 2 or 3, little-endian); nothing of the data is read. @throws CheckpointCorruptError, GgufUnsupportedError */
export function readGguf(file: FileBytes): GgufHeader {
  const cursor = new GgufCursor(file);
  checkVersion(file, cursor);
  const tensorCount = cursor.count('The number of tensors', 24); // name length, dims, type and offset of one
  const keyCount = cursor.count('The number of metadata keys', 13); // key length, type and one byte
  const metadata = readMetadata(cursor, keyCount);
  refuseSplit(file, metadata);
  const infos = readTensorInfos(file, cursor, tensorCount);
  const headerBytes = alignUp(cursor.offset, alignmentOf(file, metadata));
  return { metadata, tensors: placeTensors(file, infos, headerBytes, alignmentOf(file, metadata)), headerBytes };
}

function checkVersion(file: FileBytes, cursor: GgufCursor): void {
  if (file.byteLength < 24)
    throw new CheckpointCorruptError({ what: `The file has ${file.byteLength} bytes, too few for a GGUF header.`, where: file.path });
  const magic = cursor.uint32();
  if (magic !== 0x46554747) {
    throw new CheckpointCorruptError({
      what: `The file does not begin with "GGUF" (but with 0x${magic.toString(16).padStart(8, '0')}).`,
      where: file.path,
    });
  }
  const version = cursor.uint32();
  if (version === 2 || version === 3) return;
  const what = (version & 0xffff) === 0 ? 'The GGUF is big-endian.' : `The GGUF has version ${version}.`;
  throw new GgufUnsupportedError({ what, where: file.path, fix: 'convert it to a little-endian GGUF of version 3.' });
}

/** Reader and least size of each metadata type, by its number. 8 is a string and 9 an array. */
const valueTypes: readonly { size: number; read: (cursor: GgufCursor) => unknown }[] = [
  { size: 1, read: (c) => c.uint8() },
  { size: 1, read: (c) => c.int8() },
  { size: 2, read: (c) => c.uint16() },
  { size: 2, read: (c) => c.int16() },
  { size: 4, read: (c) => c.uint32() },
  { size: 4, read: (c) => c.int32() },
  { size: 4, read: (c) => c.float32() },
  { size: 1, read: readBoolean },
  { size: 8, read: (c) => c.string('a metadata string', false) },
  { size: 12, read: (c) => readArray(c, 0) },
  { size: 8, read: (c) => c.uint64() },
  { size: 8, read: (c) => c.int64() },
  { size: 8, read: (c) => c.float64() },
];
const arrayType = 9;
const deepestArray = 4;
const longestArray = 1 << 22;

function readMetadata(cursor: GgufCursor, count: number): Map<string, unknown> {
  const metadata = new Map<string, unknown>();
  for (let i = 0; i < count; i++) {
    const key = nameOf(cursor, 'a metadata key');
    if (metadata.has(key)) throw cursor.corrupt(`The metadata key ${JSON.stringify(key)} stands twice.`);
    metadata.set(key, valueType(cursor, cursor.uint32(), key).read(cursor));
  }
  return metadata;
}

function nameOf(cursor: GgufCursor, what: string): string {
  const name = cursor.string(what, true);
  if (name === '') throw cursor.corrupt(`The length of ${what} is 0: it is empty.`);
  return name;
}

function valueType(cursor: GgufCursor, type: number, what: string): (typeof valueTypes)[number] {
  const known = valueTypes[type];
  if (known === undefined) throw cursor.corrupt(`The metadata type ${type} of ${JSON.stringify(what)} is unknown.`);
  return known;
}

function readBoolean(cursor: GgufCursor): boolean {
  const value = cursor.uint8();
  if (value > 1) throw cursor.corrupt(`A boolean is ${value}.`);
  return value === 1;
}

function readArray(cursor: GgufCursor, depth: number): unknown[] {
  if (depth === deepestArray) throw cursor.corrupt(`Arrays are nested more than ${deepestArray} deep.`);
  const type = cursor.uint32();
  const { size, read } = valueType(cursor, type, 'an array');
  const count = cursor.count('The length of an array', size);
  if (count > longestArray) throw cursor.corrupt(`An array has ${count} elements; at most ${longestArray} are allowed.`);
  const values: unknown[] = [];
  for (let i = 0; i < count; i++) values.push(type === arrayType ? readArray(cursor, depth + 1) : read(cursor));
  return values;
}

function refuseSplit(file: FileBytes, metadata: ReadonlyMap<string, unknown>): void {
  const parts = metadata.get('split.count');
  if (typeof parts === 'number' && parts > 1) {
    throw new GgufUnsupportedError({
      what: `The file is one of ${parts} parts.`,
      where: file.path,
      fix: 'join the parts with llama-gguf-split --merge.',
    });
  }
}

function alignmentOf(file: FileBytes, metadata: ReadonlyMap<string, unknown>): number {
  const alignment = metadata.get('general.alignment') ?? 32;
  if (typeof alignment !== 'number' || alignment < 8 || alignment > 1 << 20 || !Number.isInteger(Math.log2(alignment))) {
    throw new CheckpointCorruptError({
      what: `"general.alignment" is ${String(alignment)}, not a power of two from 8 to ${1 << 20}.`,
      where: file.path,
    });
  }
  return alignment;
}

interface TensorInfo {
  key: string;
  dtype: string;
  shape: number[];
  bytes: number;
  /** From the start of the data. */
  offset: number | bigint;
}

function readTensorInfos(file: FileBytes, cursor: GgufCursor, count: number): Map<string, TensorInfo> {
  const infos = new Map<string, TensorInfo>();
  for (let i = 0; i < count; i++) {
    const key = nameOf(cursor, 'a tensor name');
    if (infos.has(key)) throw new CheckpointCorruptError({ what: 'The tensor stands twice in the header.', where: at(file.path, key) });
    const dims = readDims(file, cursor, key);
    const dtype = typeName(file, cursor.uint32(), key);
    infos.set(key, { key, dtype, shape: dims.toReversed(), bytes: bytesOf(file, key, dtype, dims), offset: cursor.uint64() });
  }
  return infos;
}

/** Innermost first, as the file has them. */
function readDims(file: FileBytes, cursor: GgufCursor, key: string): number[] {
  const rank = cursor.uint32();
  if (rank > 4)
    throw new CheckpointCorruptError({
      what: `The tensor is said to have ${rank} dimensions; at most 4 are allowed.`,
      where: at(file.path, key),
    });
  return Array.from({ length: rank }, () => {
    const dim = cursor.uint64();
    if (typeof dim === 'bigint') throw new CheckpointCorruptError({ what: `A dimension is ${dim}.`, where: at(file.path, key) });
    return dim;
  });
}

/** Tensor types by number; those without values here (such as Q4_K) are named in the error. */
const typeNames = new Map<number, string>(
  Object.entries({
    F32: 0,
    F16: 1,
    Q4_0: 2,
    Q4_1: 3,
    Q5_0: 6,
    Q5_1: 7,
    Q8_0: 8,
    Q8_1: 9,
    Q2_K: 10,
    Q3_K: 11,
    Q4_K: 12,
    Q5_K: 13,
    Q6_K: 14,
    Q8_K: 15,
    IQ2_XXS: 16,
    IQ2_XS: 17,
    IQ3_XXS: 18,
    IQ1_S: 19,
    IQ4_NL: 20,
    IQ3_S: 21,
    IQ2_S: 22,
    IQ4_XS: 23,
    I8: 24,
    I16: 25,
    I32: 26,
    I64: 27,
    F64: 28,
    IQ1_M: 29,
    BF16: 30,
    TQ1_0: 34,
    TQ2_0: 35,
    MXFP4: 39,
  }).map(([name, type]) => [type, name]),
);

function typeName(file: FileBytes, type: number, key: string): string {
  const name = typeNames.get(type);
  if (name !== undefined && sourceLayouts.has(name)) return name;
  throw new GgufUnsupportedError({ what: `The tensor has type ${name ?? `${type}, which is unknown`}.`, where: at(file.path, key) });
}

function bytesOf(file: FileBytes, key: string, dtype: string, dims: number[]): number {
  const { elements, bytes } = sourceLayouts.get(dtype)!;
  const shown = dims.toReversed().join(', ');
  // A zero must not hide that the rest overflows.
  const product = dims.reduce((count, dim) => count * Math.max(dim, 1), 1);
  if (!Number.isSafeInteger(product * bytes))
    throw new CheckpointCorruptError({ what: `The shape [${shown}] has more elements than any file can hold.`, where: at(file.path, key) });
  if ((dims[0] ?? 1) % elements !== 0) {
    throw new CheckpointCorruptError({
      what: `The rows of [${shown}] are no whole number of ${dtype}'s blocks of ${elements}.`,
      where: at(file.path, key),
    });
  }
  return dims.includes(0) ? 0 : (product / elements) * bytes;
}

/** Absolute offsets, checked: aligned, inside the file, no two tensors over each other. */
function placeTensors(
  file: FileBytes,
  infos: ReadonlyMap<string, TensorInfo>,
  dataStart: number,
  alignment: number,
): Map<string, CheckpointTensor> {
  const tensors = new Map<string, CheckpointTensor>();
  for (const { key, dtype, shape, bytes, offset } of infos.values()) {
    if (typeof offset === 'bigint' || dataStart + offset + bytes > file.byteLength) {
      throw new CheckpointCorruptError({
        what: `${dtype} [${shape.join(', ')}] needs ${bytes} bytes from ${offset} of the data, which has ${Math.max(file.byteLength - dataStart, 0)}.`,
        where: at(file.path, key),
      });
    }
    if (offset % alignment !== 0)
      throw new CheckpointCorruptError({
        what: `The offset ${offset} is no multiple of the alignment ${alignment}.`,
        where: at(file.path, key),
      });
    tensors.set(key, { key, dtype, shape, file, offset: dataStart + offset, byteLength: bytes });
  }
  refuseOverlap(file, tensors);
  return tensors;
}

function refuseOverlap(file: FileBytes, tensors: ReadonlyMap<string, CheckpointTensor>): void {
  let previous: CheckpointTensor | null = null;
  for (const tensor of [...tensors.values()].sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength)) {
    if (previous !== null && tensor.offset < previous.offset + previous.byteLength) {
      throw new CheckpointCorruptError({
        what: `The tensor's data overlap those of ${JSON.stringify(previous.key)}.`,
        where: at(file.path, tensor.key),
      });
    }
    previous = tensor;
  }
}

function alignUp(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
