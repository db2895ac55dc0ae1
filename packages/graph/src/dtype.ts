/** Element types of a tensor that `forward` computes with. */
export type DType = 'float32' | 'int64' | 'int32' | 'bool';

/**
 * How the values of a parameter lie in memory; a property of its storage, never of its name or logical shape.
 * `int8b32`: 8 bit with a scale and a zero point for every 32 values of a row. `int4b32`: 4 bit with a scale for every 32 values, zero point 8.
 * `int4b32o`: 4 bit with a scale, a zero point and a float offset for every 32 values, which holds GGUF's Q4_1 exactly.
 */
export const storageFormats = ['float32', 'bfloat16', 'float16', 'int8b32', 'int4b32', 'int4b32o'] as const;
export type StorageFormat = (typeof storageFormats)[number];

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
