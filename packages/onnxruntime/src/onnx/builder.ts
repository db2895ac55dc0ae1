import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { ElementType, TypedArrays } from '../element-type.ts';
import { OnnxBuildError } from '../errors.ts';
import { type Attribute, attributeProto } from './attributes.ts';
import { type GraphProto, GraphProtoSchema, type ModelProto, ModelProtoSchema, type NodeProto, NodeProtoSchema } from './onnx_pb.ts';
import { type DeclaredDim, type ExternalData, externalTensorProto, tensorProto, valueInfoProto } from './tensors.ts';

const IR_VERSION = 10n;
const OPSETS = [
  { domain: '', version: 21n },
  { domain: 'com.microsoft', version: 1n },
];

/** ONNX Runtime checks that the path exists even when the bytes come from the session's options; the folder itself always does. */
const GIVEN_TO_THE_SESSION: ExternalData = { location: '.' };

export interface NodeOptions {
  /** `''` is ONNX itself; ONNX Runtime's own ops are in `com.microsoft`. */
  domain?: string;
  attributes?: Readonly<Record<string, Attribute>>;
  /** How many outputs, to be named after the node, or their names (`''` where an optional one is left out). Default 1. */
  outputs?: number | readonly string[];
  /** Shown in errors and profiles; made from the op's name by default. */
  name?: string;
}

/**
 * Builds a graph from its nodes, in the order in which they run. Tensors are named by strings, and every tensor has one name.
 * IR version 10, opset 21 and `com.microsoft` 1.
 */
export class GraphBuilder {
  readonly name: string;
  private readonly graph: GraphProto;
  /** Every tensor that exists so far. */
  private readonly tensors = new Set<string>();
  private readonly nodeCounts = new Map<string, number>();

  constructor(name: string) {
    this.name = name;
    this.graph = create(GraphProtoSchema, { name });
  }

  /** Declares an input; a string among the dims is a symbol. Gives the name back, to be passed to nodes. */
  input(name: string, type: ElementType, dims: readonly DeclaredDim[]): string {
    this.graph.input.push(valueInfoProto(this.define(name), type, dims));
    return name;
  }

  /** Declares a tensor that exists as an output. */
  output(name: string, type: ElementType, dims?: readonly DeclaredDim[]): void {
    if (!this.tensors.has(name)) throw new OnnxBuildError({ what: `No node makes the output "${name}".`, where: `graph "${this.name}"` });
    this.graph.output.push(valueInfoProto(name, type, dims));
  }

  /** A constant inside the model. @throws OnnxBuildError when the data does not fit the dims. */
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
   * A constant whose bytes lie outside the model: in the file that `data` names, or, without `data`, in a value that the session
   * gets through `SessionOptions.initializers`. Such a constant cannot be folded: a node that only rearranges it (a `Transpose`, a
   * `Cast`) makes the load fail, since the optimiser then reads bytes that are not there yet.
   */
  externalInitializer(name: string, type: ElementType, dims: readonly number[], data: ExternalData = GIVEN_TO_THE_SESSION): string {
    this.graph.initializer.push(externalTensorProto(this.define(name), type, dims, data));
    return name;
  }

  /**
   * Adds a node and gives its outputs' names.
   * @param inputs Tensors that exist; `''` leaves an optional input out.
   * @throws OnnxBuildError for an input that nothing makes or an output name that is taken.
   */
  node(opType: string, inputs: readonly string[], options: NodeOptions = {}): string[] {
    const name = options.name ?? this.nodeName(opType);
    for (const input of inputs) {
      if (input !== '' && !this.tensors.has(input)) {
        throw new OnnxBuildError({
          what: `Nothing makes the input "${input}".`,
          where: `node "${name}" (${opType})`,
          fix: 'add nodes in the order in which they run.',
        });
      }
    }
    const { outputs = 1 } = options;
    const names = typeof outputs === 'number' ? Array.from({ length: outputs }, (_, index) => `${name}:${index}`) : [...outputs];
    for (const output of names) if (output !== '') this.define(output);
    this.graph.node.push(nodeProto(name, opType, inputs, names, options));
    return names;
  }

  /** Adds a node of one output. */
  op(opType: string, inputs: readonly string[], options: Omit<NodeOptions, 'outputs'> & { output?: string } = {}): string {
    const { output, ...rest } = options;
    return this.node(opType, inputs, output === undefined ? rest : { ...rest, outputs: [output] })[0] as string;
  }

  /** The graph so far. */
  toGraph(): GraphProto {
    return this.graph;
  }

  toModel(): ModelProto {
    return create(ModelProtoSchema, { irVersion: IR_VERSION, producerName: 'graft', opsetImport: OPSETS, graph: this.graph });
  }

  /** What `createSession` takes. */
  toBytes(): Uint8Array<ArrayBuffer> {
    return encodeModel(this.toModel());
  }

  private define(name: string): string {
    if (name === '' || this.tensors.has(name)) {
      throw new OnnxBuildError({
        what: name === '' ? 'A tensor has no name.' : `The name "${name}" is taken.`,
        where: `graph "${this.name}"`,
      });
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

/** @throws OnnxBuildError when the bytes are not a ModelProto. */
export function decodeModel(bytes: Uint8Array): ModelProto {
  try {
    return fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    throw new OnnxBuildError({ what: 'The bytes are not an ONNX model.', cause });
  }
}

function nodeProto(name: string, opType: string, input: readonly string[], output: readonly string[], options: NodeOptions): NodeProto {
  const { domain = '', attributes = {} } = options;
  const attribute = Object.entries(attributes).map(([key, value]) => attributeProto(key, value));
  return create(NodeProtoSchema, { name, opType, domain, input: [...input], output: [...output], attribute });
}
