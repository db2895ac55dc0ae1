import { create } from '@bufbuild/protobuf';
import { type ElementType, elementTypes, type TypedArrays } from '@graft/system';
import { elementCodes, elementCount, fillElements } from '../element-type.ts';
import { OnnxBuildError } from '../errors.ts';
import { type TensorProto, TensorProto_DataLocation, TensorProtoSchema, type ValueInfoProto, ValueInfoProtoSchema } from './onnx_pb.ts';

/** A number, or the name of a symbolic dim. */
export type DeclaredDim = number | string;

/** The bytes of an external initializer. */
export interface ExternalData {
  /** A path relative to the model. */
  location: string;
  byteOffset?: number;
  byteLength?: number;
}

/** A tensor with its data inside the model: a typed array of the element type, raw little-endian bytes, or numbers. @throws OnnxBuildError */
export function tensorProto<T extends ElementType>(
  name: string,
  type: T,
  dims: readonly number[],
  data: TypedArrays[T] | Uint8Array | readonly (number | bigint)[],
): TensorProto {
  const { bytes } = elementTypes[type];
  const raw = rawBytes(type, data);
  if (raw.byteLength !== elementCount(dims) * bytes) {
    throw new OnnxBuildError({
      what: `${type} [${dims.join(', ')}] has ${elementCount(dims) * bytes} bytes; the data has ${raw.byteLength}.`,
      where: `tensor "${name}"`,
    });
  }
  return create(TensorProtoSchema, { name, dataType: elementCodes[type], dims: dims.map((dim) => BigInt(dim)), rawData: raw });
}

export function externalTensorProto(name: string, type: ElementType, dims: readonly number[], data: ExternalData): TensorProto {
  const entries = [{ key: 'location', value: data.location }];
  if (data.byteOffset !== undefined) entries.push({ key: 'offset', value: String(data.byteOffset) });
  if (data.byteLength !== undefined) entries.push({ key: 'length', value: String(data.byteLength) });
  return create(TensorProtoSchema, {
    name,
    dataType: elementCodes[type],
    dims: dims.map((dim) => BigInt(dim)),
    dataLocation: TensorProto_DataLocation.EXTERNAL,
    externalData: entries,
  });
}

/** Declares an input or output. Without dims the shape is unknown. */
export function valueInfoProto(name: string, type: ElementType, dims?: readonly DeclaredDim[]): ValueInfoProto {
  const dim = dims?.map((each) =>
    typeof each === 'number'
      ? { value: { case: 'dimValue' as const, value: BigInt(each) } }
      : { value: { case: 'dimParam' as const, value: each } },
  );
  const tensor = { elemType: elementCodes[type], ...(dim === undefined ? {} : { shape: { dim } }) };
  return create(ValueInfoProtoSchema, { name, type: { value: { case: 'tensorType', value: tensor } } });
}

function rawBytes<T extends ElementType>(
  type: T,
  data: TypedArrays[T] | Uint8Array | readonly (number | bigint)[],
): Uint8Array<ArrayBuffer> {
  if (ArrayBuffer.isView(data)) {
    const { buffer, byteOffset, byteLength } = data;
    return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
  }
  const { array, bytes } = elementTypes[type];
  const typed = new array(new ArrayBuffer(data.length * bytes), 0, data.length);
  fillElements(type, typed, data);
  return new Uint8Array(typed.buffer);
}
