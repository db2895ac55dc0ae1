import {
  blockTypeOf,
  blockTypes,
  bytesPerElement,
  formatOfRanges,
  type PartDType,
  type RowRange,
  rangesOf,
  type StorageFormat,
} from '../dtype.ts';
import { StorageMismatchError } from '../errors.ts';

/** The place of a part in a file. A backend can map it instead of copying it. */
export interface PartLocation {
  path: string;
  offset: number;
  /** To be called once the file is mapped: throws if it is another file than the one in which the part was found. */
  verify?(): void;
}

/** One array of a storage. `read` gives its bytes, row-major and little-endian; a part in a file is read when asked for. */
export interface StoragePart {
  readonly dtype: PartDType;
  readonly dims: readonly number[];
  readonly location: PartLocation | null;
  read(): Uint8Array;
}

/**
 * The values of one parameter. The format decides its parts; for a parameter of shape [..., N, K]:
 * - float32, bfloat16, float16: `data` [..., N, K];
 * - int8b32: `quants` uint8 [..., N, K/32, 32], `scales` float32 [..., N, K/32], `zeroPoints` uint8 [..., N, K/32]; value = (q - zeroPoint) * scale;
 * - int4b32: `quants` uint8 [..., N, K/32, 16] (low nibble first), `scales` float32 [..., N, K/32]; value = (q - 8) * scale;
 * - `ggml.` and a type: `blocks` uint8 [..., N, K / elements, bytes], and `decode`;
 * - `rows:` and formats: the parts of each range of rows, named `0.blocks`, `1.blocks` and so on, `ranges` and `decode`;
 * - int4b32o: `quants` and `scales` as int4b32, `zeroPoints` uint8 and `offsets` float32 [..., N, K/32]; value = (q - zeroPoint) * scale + offset.
 */
export interface WeightStorage {
  readonly format: StorageFormat;
  readonly parts: Readonly<Record<string, StoragePart>>;
  /** The values of blocks of GGML in float32; whoever makes such a storage can read them. */
  decode?(): Float32Array;
  /** The storages of ranges of rows. */
  readonly ranges?: readonly WeightStorage[];
}

export const quantBlock = 32;

/** The parts of a format for a parameter of this shape. */
export function partsOf(format: StorageFormat, shape: readonly number[]): Record<string, { dtype: PartDType; dims: number[] }> {
  if (format === 'float32' || format === 'bfloat16' || format === 'float16') return { data: { dtype: format, dims: [...shape] } };
  const ranges = rangesOf(format);
  if (ranges !== null) return partsOfRanges(ranges, format, shape);
  const columns = shape.at(-1) ?? 0;
  const type = blockTypeOf(format);
  const block = type === null ? quantBlock : blockTypes[type].elements;
  if (columns % block !== 0)
    throw new StorageMismatchError(`The last dimension of [${shape.join(', ')}] is not a multiple of ${block}, as ${format} needs.`);
  if (type !== null) return { blocks: { dtype: 'uint8', dims: [...shape.slice(0, -1), columns / block, blockTypes[type].bytes] } };
  const blocks = [...shape.slice(0, -1), columns / quantBlock];
  const scales = { dtype: 'float32', dims: blocks } as const;
  if (format === 'int4b32') return { quants: { dtype: 'uint8', dims: [...blocks, quantBlock / 2] }, scales };
  const zeroPoints = { dtype: 'uint8', dims: blocks } as const;
  if (format === 'int4b32o') return { quants: { dtype: 'uint8', dims: [...blocks, quantBlock / 2] }, scales, zeroPoints, offsets: scales };
  return { quants: { dtype: 'uint8', dims: [...blocks, quantBlock] }, scales, zeroPoints };
}

function partsOfRanges(ranges: readonly RowRange[], format: string, shape: readonly number[]) {
  const total = ranges.reduce((sum, { rows }) => sum + rows, 0);
  if (shape.length < 2 || total !== shape.at(-2))
    throw new StorageMismatchError(`A storage ${format} has matrices of ${total} rows; the shape is [${shape.join(', ')}].`);
  const parts = ranges.map((range) => partsOf(range.format, shape.with(-2, range.rows)));
  return Object.fromEntries(parts.flatMap((each, i) => Object.entries(each).map(([name, part]) => [`${i}.${name}`, part])));
}

/** A storage of matrices `[..., N, K]` whose rows are those of other storages `[..., rows, K]`, in order. */
export function rangesStorage(shape: readonly number[], ranges: readonly WeightStorage[]): WeightStorage {
  const described = ranges.map(({ format, parts }) => ({ format, rows: Object.values(parts)[0]!.dims.at(shape.length - 2)! }));
  const parts = ranges.flatMap((range, i) => Object.entries(range.parts).map(([name, part]) => [`${i}.${name}`, part]));
  const decode = (): Float32Array => {
    const product = (dims: readonly number[]): number => dims.reduce((all, size) => all * size, 1);
    const [values, matrices] = [new Float32Array(product(shape)), product(shape.slice(0, -2))];
    let start = 0;
    for (const range of ranges) {
      const rows = toFloat32(range);
      const each = rows.length / matrices;
      for (let i = 0; i < matrices; i++) values.set(rows.subarray(i * each, (i + 1) * each), start + (i * values.length) / matrices);
      start += each;
    }
    return values;
  };
  return { format: formatOfRanges(described), parts: Object.fromEntries(parts), ranges, decode };
}

export function partBytes(part: { dtype: PartDType; dims: readonly number[] }): number {
  return part.dims.reduce((product, dim) => product * dim, bytesPerElement[part.dtype]);
}

/** A storage over arrays in memory; each is checked against what the format needs. */
export function memoryStorage(
  format: StorageFormat,
  shape: readonly number[],
  arrays: Readonly<Record<string, ArrayBufferView>>,
): WeightStorage {
  const parts: Record<string, StoragePart> = {};
  for (const [name, part] of Object.entries(partsOf(format, shape))) {
    const array = arrays[name];
    if (array === undefined || array.byteLength !== partBytes(part)) {
      throw new StorageMismatchError(
        `Part "${name}" of a ${format} storage [${shape.join(', ')}] needs ${partBytes(part)} bytes and has ${array?.byteLength ?? 'none'}.`,
      );
    }
    const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    parts[name] = { ...part, location: null, read: () => bytes };
  }
  return { format, parts };
}

/** The values in float32, whatever the format. Length: the product of the shape. For oracles, tests and small tables; not for the hot path. */
export function toFloat32(storage: WeightStorage): Float32Array {
  const read = (name: string): Uint8Array => {
    const part = storage.parts[name];
    if (part === undefined) throw new StorageMismatchError(`A ${storage.format} storage has no part "${name}".`);
    return part.read();
  };
  switch (storage.format) {
    case 'float32':
      return aligned(read('data'), Float32Array);
    case 'bfloat16':
      return fromBfloat16(aligned(read('data'), Uint16Array));
    case 'float16':
      return fromFloat16(aligned(read('data'), Uint16Array));
    case 'int8b32':
    case 'int4b32':
    case 'int4b32o': {
      const quants = read('quants');
      const scales = aligned(read('scales'), Float32Array);
      const zeroPoints = storage.format === 'int4b32' ? null : read('zeroPoints');
      const offsets = storage.format === 'int4b32o' ? aligned(read('offsets'), Float32Array) : null;
      const perByte = storage.format === 'int8b32' ? 1 : 2;
      const values = new Float32Array(quants.length * perByte); // a plain loop: `from` with a function is twenty times slower
      for (let i = 0; i < values.length; i++) {
        const block = i >> 5;
        const quant = perByte === 1 ? quants[i]! : (quants[i >> 1]! >> ((i & 1) * 4)) & 15;
        values[i] = (quant - (zeroPoints?.[block] ?? 8)) * scales[block]! + (offsets?.[block] ?? 0);
      }
      return values;
    }
    default:
      if (storage.decode !== undefined) return storage.decode();
      throw new StorageMismatchError(`A ${storage.format} storage has no \`decode\`.`);
  }
}

/** A view of the bytes as 2- or 4-byte elements; copied only where they are not aligned. */
export function aligned<A>(
  bytes: Uint8Array,
  type: { new (buffer: ArrayBufferLike, offset: number, length: number): A; BYTES_PER_ELEMENT: number },
): A {
  const size = type.BYTES_PER_ELEMENT;
  const source = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new type(source.buffer, source.byteOffset, source.byteLength / size);
}

export function fromBfloat16(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
  return new Float32Array(words.buffer);
}

function fromFloat16(bits: Uint16Array): Float32Array {
  const values = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) values[i] = float16ToNumber(bits[i]!);
  return values;
}

/** IEEE 754 binary16 to a number. */
export function float16ToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
