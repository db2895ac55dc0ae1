import type { ElementType, TypedArrays } from '@graft/system';
import { OrtValueError } from './errors.ts';

/** The numbers that ONNX (TensorProto.DataType) and ONNX Runtime's C API share, by type. */
export const elementCodes: Readonly<Record<ElementType, number>> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  bfloat16: 16,
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
