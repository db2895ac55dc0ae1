import { create } from '@bufbuild/protobuf';
import {
  type AttributeProto,
  AttributeProtoSchema,
  type GraphProto,
  AttributeProto_AttributeType as Kind,
  type TensorProto,
} from './onnx_pb.ts';

/**
 * An attribute's value. ONNX tells whole numbers from floats and JavaScript does not, so numbers say which they are: `int(1)`,
 * `float(1)`. A string is itself.
 */
export type Attribute =
  | string
  | { readonly int: number | bigint }
  | { readonly ints: readonly (number | bigint)[] }
  | { readonly float: number }
  | { readonly floats: readonly number[] }
  | { readonly strings: readonly string[] }
  | { readonly tensor: TensorProto }
  | { readonly graph: GraphProto };

export const int = (value: number | bigint): Attribute => ({ int: value });
export const ints = (values: readonly (number | bigint)[]): Attribute => ({ ints: values });
export const float = (value: number): Attribute => ({ float: value });
export const floats = (values: readonly number[]): Attribute => ({ floats: values });

const utf8 = new TextEncoder();

/** @internal */
export function attributeProto(name: string, value: Attribute): AttributeProto {
  return create(AttributeProtoSchema, { name, ...content(value) });
}

function content(value: Attribute) {
  if (typeof value === 'string') return { type: Kind.STRING, s: utf8.encode(value) };
  if ('int' in value) return { type: Kind.INT, i: BigInt(value.int) };
  if ('ints' in value) return { type: Kind.INTS, ints: value.ints.map((each) => BigInt(each)) };
  if ('float' in value) return { type: Kind.FLOAT, f: value.float };
  if ('floats' in value) return { type: Kind.FLOATS, floats: [...value.floats] };
  if ('strings' in value) return { type: Kind.STRINGS, strings: value.strings.map((each) => utf8.encode(each)) };
  if ('tensor' in value) return { type: Kind.TENSOR, t: value.tensor };
  return { type: Kind.GRAPH, g: value.graph };
}
