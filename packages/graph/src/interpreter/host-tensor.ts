import type { HostTensor } from '../backend.ts';
import type { DType } from '../dtype.ts';

type HostData = HostTensor['data'];

/** The array type that holds each element type; a bool is one byte. */
const arrayTypes = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array } as const;

export function elementCount(dims: readonly number[]): number {
  return dims.reduce((product, dim) => product * dim, 1);
}

/** A tensor of zeros. */
export function zeros(dtype: DType, dims: readonly number[]): HostTensor {
  return { dtype, dims, data: new arrayTypes[dtype](elementCount(dims)) };
}

export function holds(dtype: DType, data: HostData): boolean {
  return data instanceof arrayTypes[dtype];
}

/** A float32 tensor over `data`. */
export function float32(dims: readonly number[], data: Float32Array): HostTensor {
  return { dtype: 'float32', dims, data };
}

/** The elements of a float32 tensor. */
export function floatsOf(tensor: HostTensor): Float32Array {
  if (tensor.data instanceof Float32Array) return tensor.data;
  return Float32Array.from(numbersOf(tensor));
}

/** The elements as numbers, whatever their type. */
export function numbersOf({ data }: HostTensor): ArrayLike<number> {
  return data instanceof BigInt64Array ? Array.from(data, Number) : data;
}

/** `[..., columns]` seen as `[rows, columns]`. */
export function asRows({ dims }: HostTensor): { rows: number; columns: number } {
  const columns = dims.at(-1) ?? 1;
  return { rows: elementCount(dims.slice(0, -1)), columns };
}
