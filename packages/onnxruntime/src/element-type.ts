import { OrtValueError } from './errors.ts';

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
  /** The number that ONNX (TensorProto.DataType) and ONNX Runtime's C API share. */
  readonly code: number;
  readonly bytes: number;
  readonly array: new (buffer: ArrayBuffer, byteOffset: number, length: number) => TypedArrays[T];
}

/** By type. */
export const elementTypes: { readonly [T in ElementType]: ElementTypeFacts<T> } = {
  float32: { code: 1, bytes: 4, array: Float32Array },
  uint8: { code: 2, bytes: 1, array: Uint8Array },
  int8: { code: 3, bytes: 1, array: Int8Array },
  uint16: { code: 4, bytes: 2, array: Uint16Array },
  int16: { code: 5, bytes: 2, array: Int16Array },
  int32: { code: 6, bytes: 4, array: Int32Array },
  int64: { code: 7, bytes: 8, array: BigInt64Array },
  bool: { code: 9, bytes: 1, array: Uint8Array },
  float16: { code: 10, bytes: 2, array: Uint16Array },
  float64: { code: 11, bytes: 8, array: Float64Array },
  uint32: { code: 12, bytes: 4, array: Uint32Array },
  uint64: { code: 13, bytes: 8, array: BigUint64Array },
  bfloat16: { code: 16, bytes: 2, array: Uint16Array },
};

export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/**
 * Copies elements into a view of their type. Numbers may stand for int64's bigints.
 * @throws OrtValueError for an array of numbers with float16 or bfloat16, whose views hold bits
 * @internal
 */
export function fillElements<T extends ElementType>(
  type: T,
  target: TypedArrays[T],
  data: TypedArrays[T] | readonly (number | bigint)[],
): void {
  if (Array.isArray(data) && (type === 'float16' || type === 'bfloat16'))
    throw new OrtValueError({ what: `An array of numbers cannot fill a ${type} tensor.`, fix: 'give a Uint16Array of the bits.' });
  const wide = target instanceof BigInt64Array || target instanceof BigUint64Array;
  const elements = Array.isArray(data)
    ? Array.from(data as readonly (number | bigint)[], (each) => (wide ? BigInt(each) : Number(each)))
    : data;
  (target as { set(source: ArrayLike<number | bigint>): void }).set(elements as ArrayLike<number | bigint>);
}
