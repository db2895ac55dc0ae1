/** Element types of a tensor that `forward` computes with. */
export type DType = 'float32' | 'int64' | 'int32' | 'bool';

/** Types of GGML: the elements of a block, which are neighbours in a row, and its bytes. llama.cpp: `ggml-common.h`. */
export const blockTypes = {
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q5_0: { elements: 32, bytes: 22 },
  Q5_1: { elements: 32, bytes: 24 },
  Q8_0: { elements: 32, bytes: 34 },
  IQ4_NL: { elements: 32, bytes: 18 },
  MXFP4: { elements: 32, bytes: 17 },
  Q2_K: { elements: 256, bytes: 84 },
  Q3_K: { elements: 256, bytes: 110 },
  Q4_K: { elements: 256, bytes: 144 },
  Q5_K: { elements: 256, bytes: 176 },
  Q6_K: { elements: 256, bytes: 210 },
  IQ4_XS: { elements: 256, bytes: 136 },
  IQ2_XXS: { elements: 256, bytes: 66 },
  IQ2_XS: { elements: 256, bytes: 74 },
  IQ2_S: { elements: 256, bytes: 82 },
  IQ3_XXS: { elements: 256, bytes: 98 },
  IQ3_S: { elements: 256, bytes: 110 },
  IQ1_S: { elements: 256, bytes: 50 },
  IQ1_M: { elements: 256, bytes: 56 },
  TQ1_0: { elements: 256, bytes: 54 },
  TQ2_0: { elements: 256, bytes: 66 },
} as const;
export type BlockTypeName = keyof typeof blockTypes;

/**
 * How the values of a parameter lie in memory; a property of its storage, never of its name or logical shape.
 * `int8b32`: 8 bit with a scale and a zero point for every 32 values of a row. `int4b32`: 4 bit with a scale for every 32 values, zero point 8.
 * `int4b32o`: 4 bit with a scale, a zero point and a float offset for every 32 values, which holds GGUF's Q4_1 exactly.
 * `ggml.Q4_K` and the like: blocks of GGML as a GGUF has them. `rows:ggml.Q4_K*96,ggml.Q6_K*32`: of each matrix 96 rows in one format, then 32 in another.
 */
export type StorageFormat = (typeof plainFormats)[number] | `ggml.${BlockTypeName}` | `rows:${string}`;
const plainFormats = ['float32', 'bfloat16', 'float16', 'int8b32', 'int4b32', 'int4b32o'] as const;
export const storageFormats: readonly StorageFormat[] = [
  ...plainFormats,
  ...(Object.keys(blockTypes) as BlockTypeName[]).map((name) => `ggml.${name}` as const),
];

/** The type of GGML that a format keeps; null for the other formats. */
export function blockTypeOf(format: StorageFormat): BlockTypeName | null {
  return format.startsWith('ggml.') ? (format.slice('ggml.'.length) as BlockTypeName) : null;
}

/** Rows of each matrix of a parameter that have a format of their own. */
export interface RowRange {
  /** A format with one part. */
  readonly format: StorageFormat;
  readonly rows: number;
}

export function formatOfRanges(ranges: readonly RowRange[]): StorageFormat {
  return `rows:${ranges.map(({ format, rows }) => `${format}*${rows}`).join()}`;
}

/** The rows of a format that has several, in order; null for the other formats. */
export function rangesOf(format: StorageFormat): RowRange[] | null {
  if (!format.startsWith('rows:')) return null;
  return format
    .slice('rows:'.length)
    .split(',')
    .map((range) => {
      const [one = '', rows] = range.split('*');
      return { format: one as StorageFormat, rows: Number(rows) };
    });
}

export function isStorageFormat(value: unknown): value is StorageFormat {
  if (storageFormats.includes(value as StorageFormat)) return true;
  const ranges = typeof value === 'string' ? rangesOf(value as StorageFormat) : null;
  return ranges?.every(({ format, rows }) => storageFormats.includes(format) && Number.isSafeInteger(rows) && rows > 0) ?? false;
}

/** Element types of the arrays that a storage is made of. */
export type PartDType = 'float32' | 'bfloat16' | 'float16' | 'uint8';

export const bytesPerElement: Record<DType | PartDType, number> = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int64: 8,
  int32: 4,
  bool: 1,
  uint8: 1,
};
