import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { ElementType, TypedArrays } from '@graft/system';
import { OnnxBuildError } from '../errors.ts';
import { type Attribute, attributeProto } from './attributes.ts';
import { type GraphProto, GraphProtoSchema, type ModelProto, ModelProtoSchema, NodeProtoSchema } from './onnx_pb.ts';
import { type DeclaredDim, type ExternalData, externalTensorProto, tensorProto, valueInfoProto } from './tensors.ts';

const OPSETS = [
  { domain: '', version: 21n },
  { domain: 'com.microsoft', version: 1n },
];

export interface NodeOptions {
  /** Default `''`: ONNX. ONNX Runtime's own ops are in `com.microsoft`. */
  domain?: string;
  attributes?: Readonly<Record<string, Attribute>>;
  /** The number of outputs, which are then named after the node, or their names (`''` omits an optional one). Default 1. */
  outputs?: number | readonly string[];
  /** For errors and profiles. Default: the op and a number. */
  name?: string;
}

/** Builds a graph from its nodes, in the order in which they run. A tensor is known by its name. IR version 10, opset 21 and `com.microsoft` 1. */
export class GraphBuilder {
  readonly name: string;
  /** The graph so far. */
  readonly graph: GraphProto;
  private readonly tensors = new Set<string>();
  private readonly nodeCounts = new Map<string, number>();

  constructor(name: string) {
    this.name = name;
    this.graph = create(GraphProtoSchema, { name });
  }

  /** Declares an input and returns its name. A string in `dims` is a symbol. */
  input(name: string, type: ElementType, dims: readonly DeclaredDim[]): string {
    this.graph.input.push(valueInfoProto(this.define(name), type, dims));
    return name;
  }

  /** Declares an existing tensor as an output. @throws OnnxBuildError */
  output(name: string, type: ElementType, dims?: readonly DeclaredDim[]): void {
    if (!this.tensors.has(name)) throw new OnnxBuildError({ what: `No node makes the output "${name}".`, where: `graph "${this.name}"` });
    this.graph.output.push(valueInfoProto(name, type, dims));
  }

  /** Adds a constant inside the model. @throws OnnxBuildError when the size of the data differs from the dims. */
  initializer<T extends ElementType>(
    name: string,
    type: T,
    dims: readonly number[],
    data: TypedArrays[T] | Uint8Array | readonly (number | bigint)[],
  ): string {
    const tensor = tensorProto(name, type, dims, data);
    this.define(name);
    this.graph.initializer.push(tensor);
    return name;
  }

  /**
   * Adds a constant whose bytes lie outside the model: in the file of `data`, or by default in a value of `SessionOptions.initializers`. A node that only
   * rearranges it (a `Transpose`, a `Cast`) makes the load fail, because the optimiser then reads bytes that it does not have.
   * @param data Default: the current folder, because ONNX Runtime checks that the path exists.
   */
  externalInitializer(name: string, type: ElementType, dims: readonly number[], data: ExternalData = { location: '.' }): string {
    this.graph.initializer.push(externalTensorProto(this.define(name), type, dims, data));
    return name;
  }

  /**
   * Adds a node and returns the names of its outputs.
   * @param inputs Existing tensors; `''` omits an optional input.
   * @throws OnnxBuildError for an unknown input or a duplicate output name.
   */
  node(opType: string, inputs: readonly string[], options: NodeOptions = {}): string[] {
    const name = options.name ?? this.nodeName(opType);
    const unknown = inputs.find((input) => input !== '' && !this.tensors.has(input));
    if (unknown !== undefined) {
      const where = `node "${name}" (${opType})`;
      throw new OnnxBuildError({ what: `No node makes the input "${unknown}".`, where, fix: 'add nodes in the order in which they run.' });
    }
    const { outputs = 1, domain = '', attributes = {} } = options;
    const names = typeof outputs === 'number' ? Array.from({ length: outputs }, (_, index) => `${name}:${index}`) : [...outputs];
    for (const output of names) if (output !== '') this.define(output);
    const attribute = Object.entries(attributes).map(([key, value]) => attributeProto(key, value));
    this.graph.node.push(create(NodeProtoSchema, { name, opType, domain, input: [...inputs], output: names, attribute }));
    return [...names];
  }

  /** Adds a node of one output. */
  op(opType: string, inputs: readonly string[], options: Omit<NodeOptions, 'outputs'> & { output?: string } = {}): string {
    const { output, ...rest } = options;
    return this.node(opType, inputs, output === undefined ? rest : { ...rest, outputs: [output] })[0] as string;
  }

  /** The bytes of a ModelProto, for `createSession`. */
  toBytes(): Uint8Array<ArrayBuffer> {
    return encodeModel(create(ModelProtoSchema, { irVersion: 10n, producerName: 'graft', opsetImport: OPSETS, graph: this.graph }));
  }

  private define(name: string): string {
    if (name === '' || this.tensors.has(name)) {
      const what = name === '' ? 'A tensor has an empty name.' : `The graph has two tensors with the name "${name}".`;
      throw new OnnxBuildError({ what, where: `graph "${this.name}"` });
    }
    this.tensors.add(name);
    return name;
  }

  private nodeName(opType: string): string {
    const count = this.nodeCounts.get(opType) ?? 0;
    this.nodeCounts.set(opType, count + 1);
    return `${opType}_${count}`;
  }
}

export function encodeModel(model: ModelProto): Uint8Array<ArrayBuffer> {
  return toBinary(ModelProtoSchema, model);
}

/** @throws OnnxBuildError when the bytes are not a ModelProto */
export function decodeModel(bytes: Uint8Array): ModelProto {
  try {
    return fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    throw new OnnxBuildError({ what: 'The bytes are not an ONNX model.', cause });
  }
}
