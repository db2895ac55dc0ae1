import { create } from '@bufbuild/protobuf';
import { type AttributeProto, AttributeProtoSchema, AttributeProto_AttributeType as Kind } from './onnx_pb.ts';

/** An attribute's value. ONNX distinguishes ints and floats and JavaScript does not, so use `int(1)` or `float(1)`. */
export type Attribute =
  | string
  | { readonly int: number | bigint }
  | { readonly ints: readonly (number | bigint)[] }
  | { readonly float: number };

export const int = (value: number | bigint): Attribute => ({ int: value });
export const ints = (values: readonly (number | bigint)[]): Attribute => ({ ints: values });
export const float = (value: number): Attribute => ({ float: value });

const utf8 = new TextEncoder();

/** @internal */
export function attributeProto(name: string, value: Attribute): AttributeProto {
  return create(AttributeProtoSchema, { name, ...content(value) });
}

function content(value: Attribute) {
  if (typeof value === 'string') return { type: Kind.STRING, s: utf8.encode(value) };
  if ('int' in value) return { type: Kind.INT, i: BigInt(value.int) };
  if ('ints' in value) return { type: Kind.INTS, ints: value.ints.map((each) => BigInt(each)) };
  return { type: Kind.FLOAT, f: value.float };
}
