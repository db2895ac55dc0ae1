import { type Handle, type OrtApi, outOf } from './ort-api.ts';

/** Reads the element type and the dims (null where symbolic) out of an info object, which the caller releases. @internal */
export function tensorFacts(api: OrtApi, info: Handle<'TensorInfo'>): { typeCode: number; dims: (number | null)[] } {
  const typeCode = outOf<number>((out) => api.calls.GetTensorElementType(info, out));
  const rank = Number(outOf<number | bigint>((out) => api.calls.GetDimensionsCount(info, out)));
  const dims = new BigInt64Array(rank);
  api.calls.GetDimensions(info, dims, rank);
  return { typeCode, dims: [...dims].map((dim) => (dim < 0n ? null : Number(dim))) };
}
