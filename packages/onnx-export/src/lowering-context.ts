import { type Dim, type Dims, formatDims, type StorageFormat, sameDims, toFloat32, type Value, type WeightSlot } from '@graft/graph';
import { type Attribute, elementCodes, GraphBuilder, int } from '@graft/onnxruntime';
import type { ElementType } from '@graft/system';
import { LoweringError } from './errors.ts';
import { tensorBytes, type WeightStore } from './weight-store.ts';

/** The precision of activations in products with 4-bit weights: exact (faster for many rows), or rounded to 8 bits (faster for one row). */
export type Activations = 'exact' | 'rounded';

/** The name of a tensor in the ONNX graph. */
export type Name = string;

/** A weight that is an input of the ONNX graph, in float32 and row-major, with the dims of `slot.shape`. */
export interface WeightInput {
  readonly name: Name;
  readonly slot: WeightSlot;
}

interface NodeChoice {
  attributes?: Readonly<Record<string, Attribute>>;
  /** The op is in ONNX Runtime's own domain. */
  microsoft?: boolean;
}

interface LoweringChoices {
  activations: Activations;
  fuse: boolean;
  graphOutputs: ReadonlySet<Value>;
}

/** The ONNX graph that lowerings build, and the tensor of each value. */
export class LoweringContext {
  readonly onnx = new GraphBuilder('graft');
  /** The memory of weights that are initializers; null when weights are inputs of the graph. */
  private readonly weights: WeightStore | null;
  readonly weightInputs: WeightInput[] = [];
  readonly activations: Activations;
  /** See `ExportOptions.fuse`. */
  readonly fuse: boolean;
  /** The module whose op is being lowered, for names and errors. */
  path = '';
  private readonly graphOutputs: ReadonlySet<Value>;
  private readonly names = new Map<Value, Name>();
  private readonly weightSlots = new Map<Value, WeightSlot>();
  private readonly cacheOutputs = new Map<Value, Name>();
  private readonly memo = new Map<string, Name>();
  private readonly symbols = new Map<string, { input: Name; axis: number }>();
  private nodes = 0;

  constructor(weights: WeightStore | null, { activations, fuse, graphOutputs }: LoweringChoices) {
    this.weights = weights;
    this.activations = activations;
    this.fuse = fuse;
    this.graphOutputs = graphOutputs;
  }

  /** Declares an input of the graph. The symbols of its dims become available as tensors. */
  input(value: Value, name: Name, type: ElementType): void {
    this.alias(value, this.onnx.input(name, type, declaredDims(value.dims)));
    for (const [axis, dim] of value.dims.entries()) {
      if (dim.symbolName !== null && !this.symbols.has(dim.symbolName)) this.symbols.set(dim.symbolName, { input: name, axis });
    }
  }

  /** Makes `name` the tensor of `value`. */
  alias(value: Value, name: Name): void {
    this.names.set(value, name);
  }

  weight(slot: WeightSlot): void {
    this.weightSlots.set(slot.value, slot);
  }

  /** Declares a KV cache: an input, and the output that the attention writes. */
  cache(value: Value, input: Name, output: Name): void {
    this.alias(value, this.onnx.input(input, 'float32', cacheDims(value.dims)));
    this.cacheOutputs.set(value, output);
  }

  cacheOutput(value: Value): Name {
    const output = this.cacheOutputs.get(value);
    if (output === undefined) throw this.error('The attention reads a cache that is bound as an input.');
    return output;
  }

  /** The tensor of a value. A weight becomes a float32 initializer or input. */
  name(value: Value): Name {
    const known = this.names.get(value);
    if (known !== undefined) return known;
    const slot = this.weightSlots.get(value);
    if (slot === undefined) throw this.error(`No node has made value ${value.id}.`);
    const name = this.weights === null ? this.onnx.input(`weight ${slot.path}`, 'float32', slot.shape) : this.dense(slot);
    if (this.weights === null) this.weightInputs.push({ name, slot });
    this.alias(value, name);
    return name;
  }

  private get store(): WeightStore {
    if (this.weights === null) throw this.error('The lowering needs a weight as a constant, and weights are inputs of this graph.');
    return this.weights;
  }

  /** Whether the value is an output of the graph. */
  isOutput(value: Value): boolean {
    return this.graphOutputs.has(value);
  }

  /** The weight of a value, or null for a computed value. */
  weightOf(value: Value): WeightSlot | null {
    return this.weightSlots.get(value) ?? null;
  }

  /** Whether weights are inputs of the graph. Lowerings can then neither read nor slice them. */
  get hasWeightInputs(): boolean {
    return this.weights === null;
  }

  /** The storage format of a weight; float32 for other values, and for weights that are inputs. */
  formatOf(value: Value): StorageFormat {
    if (this.weights === null) return 'float32';
    return (this.weightSlots.get(value)?.source.dtype as StorageFormat) ?? 'float32';
  }

  /** A float32 initializer of a weight, or of its slice `index` along the first axis. */
  dense(slot: WeightSlot, index?: number): Name {
    const dims = index === undefined ? slot.shape : slot.shape.slice(1);
    // ONNX Runtime's optimiser reads scalars (it removes a product with 1), and it would look for an external one in a file.
    if (index === undefined && dims.every((dim) => dim === 1)) return this.constant('float32', dims, [...toFloat32(this.storageOf(slot))]);
    return this.once(`dense ${slot.path} ${index ?? ''}`, () => {
      const name = `weight ${slot.path}${index === undefined ? '' : `[${index}]`}`;
      const byteOffset = (index ?? 0) * tensorBytes('float32', dims);
      this.store.addFloat32(name, this.storageOf(slot), { dims, byteOffset });
      return this.onnx.externalInitializer(name, 'float32', dims);
    });
  }

  /**
   * An initializer over a part of a weight's storage, or of its slice `index` along the first axis. The part `packedZeroPoints` has two zero points in a byte.
   */
  part(slot: WeightSlot, partName: string, index?: number, reshape: (dims: readonly number[]) => readonly number[] = (dims) => dims): Name {
    const { parts } = this.storageOf(slot);
    const part = partName === 'packedZeroPoints' ? this.store.packNibbles(parts['zeroPoints']!) : parts[partName];
    if (part === undefined) throw this.error(`The storage of "${slot.path}" has no part "${partName}".`);
    const whole = index === undefined ? part.dims : part.dims.slice(1);
    const dims = reshape(whole);
    const name = `weight ${slot.path}${index === undefined ? '' : `[${index}]`} ${partName}${dims === whole ? '' : ` ${dims.join('x')}`}`;
    return this.once(`part ${name}`, () => {
      this.store.add(name, part, { dims, byteOffset: (index ?? 0) * tensorBytes(part.dtype, whole) });
      return this.onnx.externalInitializer(name, part.dtype, dims);
    });
  }

  /** Adds a node of one output. */
  op(type: string, inputs: readonly Name[], choice: NodeChoice = {}): Name {
    return this.node(type, inputs, 1, choice)[0]!;
  }

  /** Adds a node. `outputs` is the number of outputs, or their names: `''` omits an output, null names it after the node. */
  node(
    type: string,
    inputs: readonly Name[],
    outputs: number | readonly (Name | null)[],
    { attributes = {}, microsoft = false }: NodeChoice = {},
  ): Name[] {
    const name = `${this.path}/${type}#${this.nodes++}`;
    const list = typeof outputs === 'number' ? outputs : outputs.map((output, i) => output ?? `${name}:${i}`);
    return this.onnx.node(type, inputs, { name, outputs: list, attributes, ...(microsoft && { domain: 'com.microsoft' }) });
  }

  /** A small constant. Equal constants share a tensor. */
  constant(type: 'float32' | 'int64' | 'int32', dims: readonly number[], values: readonly number[]): Name {
    return this.once(`constant ${type} ${dims.join()} ${values.join()}`, () => {
      const data = type === 'int64' ? values.map((value) => BigInt(value)) : values;
      return this.onnx.initializer(`constant#${this.memo.size}`, type, dims, data);
    });
  }

  /** A constant int64 vector. */
  int64s(values: readonly number[]): Name {
    return this.constant('int64', [values.length], values);
  }

  /** Joins tensors along the first axis. */
  concat(tensors: readonly Name[]): Name {
    return this.op('Concat', tensors, { attributes: { axis: int(0) } });
  }

  /** Picks rows, or axis-0 slices, of `x` by `indices`. */
  gather(x: Name, indices: Name): Name {
    return this.op('Gather', [x, indices], { attributes: { axis: int(0) } });
  }

  cast(x: Name, type: ElementType): Name {
    return this.op('Cast', [x], { attributes: { to: int(elementCodes[type]) } });
  }

  /** Whether `constant` has made the tensor. */
  isConstant(name: Name): boolean {
    return name.startsWith('constant#');
  }

  /** The tensor that the first call with this key has made. */
  once(key: string, make: () => Name): Name {
    const name = this.memo.get(key) ?? make();
    this.memo.set(key, name);
    return name;
  }

  /** Reshapes `x` from dims `from` to dims `to`. */
  reshape(x: Name, from: Dims, to: Dims): Name {
    return sameDims(from, to) ? x : this.op('Reshape', [x, this.target(from, to)]);
  }

  /** An int64 tensor that holds `dims`. */
  shape(dims: Dims): Name {
    if (dims.every((dim) => dim.isStatic)) return this.int64s(dims.map((dim) => dim.value));
    const joined = (): Name => this.concat(dims.map((dim) => this.size(dim)));
    return this.once(`shape ${formatDims(dims)}`, joined);
  }

  error(what: string): LoweringError {
    return new LoweringError(what, this.path);
  }

  private storageOf(slot: WeightSlot) {
    const { storage } = slot.source;
    if (storage === null) throw this.error(`The weight "${slot.path}" has no values; load the weights before you compile.`);
    return storage;
  }

  /** The second input of `Reshape`: 0 copies a dim, and -1 is computed from the others. */
  private target(from: Dims, to: Dims): Name {
    const sizes = to.map((dim, i) => (dim.isStatic ? dim.value : from[i]?.equals(dim) === true ? 0 : -1));
    if (sizes.filter((size) => size === -1).length > 1) return this.shape(to);
    return this.int64s(sizes);
  }

  /** One dim as an int64 tensor [1]. */
  private size(dim: Dim): Name {
    const factors = dim.toString().split('*');
    return factors.map((factor) => this.factor(factor)).reduce((product, factor) => this.op('Mul', [product, factor]));
  }

  private factor(factor: string): Name {
    if (/^\d+$/.test(factor)) return this.int64s([Number(factor)]);
    const source = this.symbols.get(factor);
    if (source === undefined) throw this.error(`No input of the graph has the dimension "${factor}".`);
    return this.once(`symbol ${factor}`, () =>
      this.op('Shape', [source.input], { attributes: { start: int(source.axis), end: int(source.axis + 1) } }),
    );
  }
}

/** Elements of a head in the cache. The attention kernel needs a multiple of 8, so other heads are padded with zeros. */
export function cacheWidth(headDim: number): number {
  return Math.ceil(headDim / 8) * 8;
}

/** Dims of a cache in the ONNX graph: [batch, heads, rows, headDim], with padded heads. */
export function cacheDims(dims: Dims): (number | string)[] {
  return [...declaredDims(dims.slice(0, -1)), cacheWidth(dims.at(-1)!.value)];
}

/** Dims of an ONNX input or output: numbers and symbol names. */
export function declaredDims(dims: Dims): (number | string)[] {
  return dims.map((dim) => (dim.isStatic ? dim.value : dim.toString()));
}
