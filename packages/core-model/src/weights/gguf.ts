import type { CheckpointTensor } from './checkpoint.ts';
import { at, corrupt, GgufUnsupportedError } from './errors.ts';
import type { FileBytes } from './file-bytes.ts';
import { GgufCursor } from './gguf-cursor.ts';
import { sourceTypes } from './quantize.ts';
import type { SafetensorsHeader } from './safetensors.ts';
import { bytesOfTensor, checkPlaces } from './tensor-places.ts';

/*
 * @huggingface/gguf 0.4.6 is not used because it trusts the file. It parses zeros where a file is truncated (its buffer grows in steps of 2 MB), cuts
 * strings short at the buffer's end, lets a second tensor or key replace or join the first of the same name, keeps metadata in a plain object
 * (`__proto__`), and does not check data offsets, sizes, types or the alignment.
 */

export interface GgufHeader extends SafetensorsHeader {
  /** Arrays are plain arrays; whole numbers beyond 2^53 are bigint. */
  metadata: Map<string, unknown>;
}

/** Reads and checks a GGUF's header (version 2 or 3, little-endian), and no data. @throws CheckpointCorruptError, GgufUnsupportedError */
export function readGguf(file: FileBytes): GgufHeader {
  const cursor = new GgufCursor(file);
  checkVersion(file, cursor);
  const tensorCount = cursor.count('The number of tensors', 24); // name length, dims, type and offset of one
  const keyCount = cursor.count('The number of metadata keys', 13, mostKeys); // key length, type and one byte
  const metadata = readMetadata(cursor, keyCount);
  refuseOtherFiles(file, metadata);
  const infos = readTensorInfos(file, cursor, tensorCount);
  const alignment = alignmentOf(file, metadata);
  const headerBytes = Math.ceil(cursor.offset / alignment) * alignment;
  return { metadata, tensors: placeTensors(infos, file, headerBytes, alignment), headerBytes };
}

const packed = 'unpack it, and name the folder or the .gguf file in it.';
/** What people name in the place of a GGUF, by the first bytes. */
const otherStarts: readonly (readonly [starts: readonly string[], what: string, fix: string])[] = [
  [['lmgg', 'tjgg', 'fmgg'], 'in a format of GGML that is older than GGUF', 'download a GGUF of the model.'],
  [['PK\x03\x04'], 'a zip archive', packed],
  [['\x1f\x8b', 'BZh', '\xfd7zXZ', '\x28\xb5\x2f\xfd', '7z\xbc\xaf'], 'a compressed archive', packed],
  [['\x7fELF', 'MZ'], 'a program', 'download the GGUF that the program was made from.'],
];

function checkVersion(file: FileBytes, cursor: GgufCursor): void {
  const start = Buffer.from(file.read(0, Math.min(file.byteLength, 64))).toString('latin1');
  if (!'GGUF'.startsWith(start.slice(0, 4))) {
    const [, what, fix] = otherStarts.find(([starts]) => starts.some((each) => start.startsWith(each))) ?? [];
    if (what !== undefined) throw new GgufUnsupportedError(`The file is ${what}, not a GGUF.`, file.path, { fix: fix! });
    const shown = /^[\t\n\r -~]+$/.test(start) ? JSON.stringify(start) : `0x${Buffer.from(start.slice(0, 4), 'latin1').toString('hex')}`;
    throw corrupt(file, `The file begins with ${shown}, not with "GGUF".`);
  }
  if (file.byteLength < 24) throw corrupt(file, `The file has ${file.byteLength} bytes, too few for a GGUF header.`);
  cursor.uint32();
  const version = cursor.uint32();
  if (version === 2 || version === 3) return;
  const what = (version & 0xffff) === 0 ? 'The GGUF is big-endian.' : `The GGUF has version ${version}.`;
  throw new GgufUnsupportedError(what, file.path, { fix: 'convert it to a little-endian GGUF of version 3.' });
}

interface ValueType {
  /** The least number of bytes. */
  readonly size: number;
  /** @param left the elements that arrays may still have. */
  read(cursor: GgufCursor, left: { elements: number }): unknown;
}

const plain = (size: number, get: Parameters<GgufCursor['take']>[1]): ValueType => ({ size, read: (cursor) => cursor.take(size, get) });

/** The metadata types by number. 8 is a string and 9 an array. */
const valueTypes: readonly ValueType[] = [
  plain(1, 'getUint8'),
  plain(1, 'getInt8'),
  plain(2, 'getUint16'),
  plain(2, 'getInt16'),
  plain(4, 'getUint32'),
  plain(4, 'getInt32'),
  plain(4, 'getFloat32'),
  { size: 1, read: readBoolean },
  { size: 8, read: (cursor) => cursor.string('a metadata string', false) },
  { size: 12, read: (cursor, left) => readArray(cursor, left, 0) },
  plain(8, 'getBigUint64'),
  plain(8, 'getBigInt64'),
  plain(8, 'getFloat64'),
];
const arrayType = 9;
const mostKeys = 1 << 16;
const deepestArray = 4;
/** Of all arrays together. A vocabulary of 262,144 tokens with types, scores and merges has 1.3 million. */
const mostElements = 1 << 22;

function readMetadata(cursor: GgufCursor, count: number): Map<string, unknown> {
  const metadata = new Map<string, unknown>();
  const left = { elements: mostElements };
  for (let i = 0; i < count; i++) {
    const key = nameOf(cursor, 'a metadata key');
    if (metadata.has(key)) throw cursor.corrupt(`The metadata key ${JSON.stringify(key)} occurs twice.`);
    metadata.set(key, valueType(cursor, cursor.uint32(), key).read(cursor, left));
  }
  return metadata;
}

function nameOf(cursor: GgufCursor, what: string): string {
  const name = cursor.string(what, true);
  if (name === '') throw cursor.corrupt(`The length of ${what} is 0.`);
  return name;
}

function valueType(cursor: GgufCursor, type: number, what: string): ValueType {
  const known = valueTypes[type];
  if (known === undefined) throw cursor.corrupt(`The metadata type ${type} of ${JSON.stringify(what)} is unknown.`);
  return known;
}

function readBoolean(cursor: GgufCursor): boolean {
  const value = Number(cursor.take(1, 'getUint8'));
  if (value > 1) throw cursor.corrupt(`A boolean is ${value}.`);
  return value === 1;
}

function readArray(cursor: GgufCursor, left: { elements: number }, depth: number): unknown[] {
  if (depth === deepestArray) throw cursor.corrupt(`Arrays are nested more than ${deepestArray} deep.`);
  const type = cursor.uint32();
  const { size, read } = valueType(cursor, type, 'an array');
  const count = cursor.count('The length of an array', size);
  left.elements -= count;
  if (left.elements < 0) throw cursor.corrupt(`The arrays of the metadata have more than ${mostElements} elements.`);
  const values: unknown[] = [];
  for (let i = 0; i < count; i++) values.push(type === arrayType ? readArray(cursor, left, depth + 1) : read(cursor, left));
  return values;
}

/** GGUF files beside the model, by `general.type` or architecture. */
const otherFiles: Readonly<Record<string, [what: string, fix: string]>> = {
  adapter: ['a LoRA adapter', 'name the model that it is for; adapters are not applied, so merge it into the model first.'],
  mmproj: ['a projector for images (mmproj)', 'name the language model that it belongs to, which is served for text.'],
  clip: ['a projector for images (mmproj)', 'name the language model that it belongs to, which is served for text.'],
  imatrix: ['an importance matrix', 'name the model that it was measured on.'],
};

function refuseOtherFiles(file: FileBytes, metadata: ReadonlyMap<string, unknown>): void {
  const other = otherFiles[String(metadata.get('general.type'))] ?? otherFiles[String(metadata.get('general.architecture'))];
  if (other !== undefined) throw new GgufUnsupportedError(`The GGUF is ${other[0]}, not a model.`, file.path, { fix: other[1] });
}

function alignmentOf(file: FileBytes, metadata: ReadonlyMap<string, unknown>): number {
  const alignment = metadata.get('general.alignment') ?? 32;
  if (typeof alignment !== 'number' || alignment < 8 || alignment > 1 << 20 || !Number.isInteger(Math.log2(alignment))) {
    throw corrupt(file, `"general.alignment" is ${String(alignment)}, not a power of two from 8 to ${1 << 20}.`);
  }
  return alignment;
}

/** By name; offsets from the start of the data. */
function readTensorInfos(file: FileBytes, cursor: GgufCursor, count: number): Map<string, CheckpointTensor> {
  const tensors = new Map<string, CheckpointTensor>();
  for (let i = 0; i < count; i++) {
    const key = nameOf(cursor, 'a tensor name');
    if (tensors.has(key)) throw corrupt(file, 'The tensor occurs twice in the header.', key);
    const shape = readShape(file, cursor, key);
    const dtype = typeName(file, cursor.uint32(), key);
    const block = sourceTypes.get(dtype)!;
    if ((shape.at(-1) ?? 1) % block.elements !== 0)
      throw corrupt(file, `The rows of [${shape.join(', ')}] are not a whole number of ${dtype}'s blocks of ${block.elements}.`, key);
    const byteLength = bytesOfTensor(file, key, shape, block);
    tensors.set(key, { key, dtype, shape, file, offset: Number(cursor.uint64()), byteLength });
  }
  return tensors;
}

/** Outermost first; the file has the innermost first. */
function readShape(file: FileBytes, cursor: GgufCursor, key: string): number[] {
  const rank = cursor.uint32();
  if (rank > 4) throw corrupt(file, `The header gives the tensor ${rank} dimensions; at most 4 are allowed.`, key);
  const dims = Array.from({ length: rank }, () => {
    const dim = cursor.uint64();
    if (typeof dim === 'bigint') throw corrupt(file, `A dimension is ${dim}.`, key);
    return dim;
  });
  return dims.reverse();
}

/** Tensor types by number; `-` is unused. Errors name types that cannot be read, such as Q4_K. */
const typeNames =
  `F32 F16 Q4_0 Q4_1 - - Q5_0 Q5_1 Q8_0 Q8_1 Q2_K Q3_K Q4_K Q5_K Q6_K Q8_K IQ2_XXS IQ2_XS IQ3_XXS IQ1_S IQ4_NL IQ3_S IQ2_S IQ4_XS
  I8 I16 I32 I64 F64 IQ1_M BF16 - - - TQ1_0 TQ2_0 - - - MXFP4`.split(/\s+/);

function typeName(file: FileBytes, type: number, key: string): string {
  const name = typeNames[type] ?? '-';
  if (sourceTypes.has(name)) return name;
  throw new GgufUnsupportedError(`The tensor has type ${name === '-' ? `${type}, which is unknown` : name}.`, at(file.path, key));
}

/** The tensors with absolute offsets, checked: aligned, inside the file, no two over each other. */
function placeTensors(infos: ReadonlyMap<string, CheckpointTensor>, file: FileBytes, dataStart: number, alignment: number) {
  const tensors = new Map<string, CheckpointTensor>();
  for (const [key, info] of infos) {
    const { dtype, shape, byteLength, offset } = info;
    if (dataStart + offset + byteLength > file.byteLength) {
      const data = Math.max(file.byteLength - dataStart, 0);
      throw corrupt(file, `${dtype} [${shape.join(', ')}] needs ${byteLength} bytes from ${offset} of the data, which has ${data}.`, key);
    }
    if (offset % alignment !== 0) throw corrupt(file, `The offset ${offset} is not a multiple of the alignment ${alignment}.`, key);
    tensors.set(key, { ...info, offset: dataStart + offset });
  }
  checkPlaces(file, tensors, dataStart, { holes: true });
  return tensors;
}
