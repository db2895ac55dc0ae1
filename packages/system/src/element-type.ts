/** The element types of tensors. `float16` and `bfloat16` elements are given as their bits. */
export interface TypedArrays {
  float32: Float32Array<ArrayBuffer>;
  float64: Float64Array<ArrayBuffer>;
  float16: Uint16Array<ArrayBuffer>;
  bfloat16: Uint16Array<ArrayBuffer>;
  int8: Int8Array<ArrayBuffer>;
  uint8: Uint8Array<ArrayBuffer>;
  int16: Int16Array<ArrayBuffer>;
  uint16: Uint16Array<ArrayBuffer>;
  int32: Int32Array<ArrayBuffer>;
  uint32: Uint32Array<ArrayBuffer>;
  int64: BigInt64Array<ArrayBuffer>;
  uint64: BigUint64Array<ArrayBuffer>;
  bool: Uint8Array<ArrayBuffer>;
}

export type ElementType = keyof TypedArrays;

interface ElementTypeFacts<T extends ElementType> {
  readonly bytes: number;
  readonly array: new (buffer: ArrayBuffer, byteOffset: number, length: number) => TypedArrays[T];
}

/** By type. */
export const elementTypes: { readonly [T in ElementType]: ElementTypeFacts<T> } = {
  float32: { bytes: 4, array: Float32Array },
  uint8: { bytes: 1, array: Uint8Array },
  int8: { bytes: 1, array: Int8Array },
  uint16: { bytes: 2, array: Uint16Array },
  int16: { bytes: 2, array: Int16Array },
  int32: { bytes: 4, array: Int32Array },
  int64: { bytes: 8, array: BigInt64Array },
  bool: { bytes: 1, array: Uint8Array },
  float16: { bytes: 2, array: Uint16Array },
  float64: { bytes: 8, array: Float64Array },
  uint32: { bytes: 4, array: Uint32Array },
  uint64: { bytes: 8, array: BigUint64Array },
  bfloat16: { bytes: 2, array: Uint16Array },
};
