import { type Dim, type Dims, formatDims, type StorageFormat, sameDims, toFloat32, type Value, type WeightSlot } from '@graft/graph';
import { type Attribute, type ElementType, GraphBuilder, int } from '@graft/onnxruntime';
import { LoweringError } from './errors.ts';
import { tensorBytes, type WeightStore } from './weight-store.ts';

export type Attributes = Readonly<Record<string, Attribute>>;

/** Whether products with 4 bit weights keep their activations or round them to 8 bit: exact is faster for many rows, rounded for one. */
export type Activations = 'exact' | 'rounded';

/** A tensor of the ONNX graph, by name. */
export type Name = string;

/** A weight that the ONNX graph takes as an input, float32 and row-major, as `slot.shape` says. */
export interface WeightInput {
  readonly name: Name;
  readonly slot: WeightSlot;
}

interface NodeChoice {
  attributes?: Attributes;
  /** Op of ONNX Runtime's own domain. */
  microsoft?: boolean;
}

/** How a graph is lowered. */
interface LoweringChoices {
  activations: Activations;
  fuse: boolean;
  graphOutputs: ReadonlySet<Value>;
}

/** What a lowering works with: the ONNX graph so far, and which of its tensors stands for which value. */
export class LoweringContext {
  readonly onnx = new GraphBuilder('graft');
  /** Where initializers over weights go; null: weights are inputs of the graph, in float32. */
  private readonly weights: WeightStore | null;
  /** The weights that are inputs so far, by their names. */
  readonly weightInputs: WeightInput[] = [];
  readonly activations: Activations;
  private readonly graphOutputs: ReadonlySet<Value>;
  /** The module whose op is being lowered, for names and errors. */
  path = '';
  /** Whether one kernel may do what several ops say. */
  readonly fuse: boolean;
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

  /** Declares an input of the graph; symbols of its dims can then be had as tensors. */
  input(value: Value, name: Name, type: ElementType): void {
    this.alias(value, this.onnx.input(name, type, declaredDims(value.dims)));
    for (const [axis, dim] of value.dims.entries()) {
      if (dim.symbolName !== null && !this.symbols.has(dim.symbolName)) this.symbols.set(dim.symbolName, { input: name, axis });
    }
  }

  /** Lets `value` be the tensor of this name. */
  alias(value: Value, name: Name): void {
    this.names.set(value, name);
  }

  weight(slot: WeightSlot): void {
    this.weightSlots.set(slot.value, slot);
  }

  /** A KV cache: its input, and the name under which the attention that extends it must give it back. */
  cache(value: Value, input: Name, output: Name): void {
    this.alias(value, this.onnx.input(input, 'float32', cacheDims(value.dims)));
    this.cacheOutputs.set(value, output);
  }

  cacheOutput(value: Value): Name {
    const output = this.cacheOutputs.get(value);
    if (output === undefined) throw this.error('Its cache is not bound as a cache.');
    return output;
  }

  /** The tensor of a value; a weight becomes a float32 initializer or input. */
  name(value: Value): Name {
    const known = this.names.get(value);
    if (known !== undefined) return known;
    const slot = this.weightSlots.get(value);
    if (slot === undefined) throw this.error(`Value ${value.id} has no tensor.`);
    const name = this.weights === null ? this.weightInput(slot) : this.dense(slot);
    this.alias(value, name);
    return name;
  }

  private weightInput(slot: WeightSlot): Name {
    const name = this.onnx.input(`weight ${slot.path}`, 'float32', slot.shape);
    this.weightInputs.push({ name, slot });
    return name;
  }

  private get store(): WeightStore {
    if (this.weights === null) throw this.error('It needs a weight as a constant, and weights are inputs here.');
    return this.weights;
  }

  /** Whether the graph gives this value back. */
  isOutput(value: Value): boolean {
    return this.graphOutputs.has(value);
  }

  /** The weight that a value is, or null when it is computed. */
  weightOf(value: Value): WeightSlot | null {
    return this.weightSlots.get(value) ?? null;
  }

  /** Whether weights are inputs of the graph, so that none can be looked into or cut up while it is built. */
  get hasWeightInputs(): boolean {
    return this.weights === null;
  }

  /** The form of a weight; what is computed or is an input is float32. */
  formatOf(value: Value): StorageFormat {
    if (this.weights === null) return 'float32';
    return (this.weightSlots.get(value)?.source.dtype as StorageFormat) ?? 'float32';
  }

  /** A float32 initializer of a weight, or of its part `index` along the first axis. */
  dense(slot: WeightSlot, index?: number): Name {
    const dims = index === undefined ? slot.shape : slot.shape.slice(1);
    // ONNX Runtime reads scalars while it optimises (a product with 1 is none), and would look for an external one in a file.
    if (index === undefined && dims.every((dim) => dim === 1)) return this.constant('float32', dims, [...toFloat32(this.storageOf(slot))]);
    return this.once(`dense ${slot.path} ${index ?? ''}`, () => {
      const name = `weight ${slot.path}${index === undefined ? '' : `[${index}]`}`;
      const byteOffset = (index ?? 0) * tensorBytes('float32', dims);
      this.store.addFloat32(name, this.storageOf(slot), { dims, byteOffset });
      return this.onnx.externalInitializer(name, 'float32', dims);
    });
  }

  /** An initializer over one array of a weight's storage (or `packedZeroPoints`, two a byte), of the whole or of part `index` along the first axis; `reshape` may regroup its dims. */
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

  /** Adds a node; `outputs` is their number, or their names (`''`: left out, null: named after the node). */
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

  /** A small constant; equal ones are one. */
  constant(type: 'float32' | 'int64' | 'int32', dims: readonly number[], values: readonly number[]): Name {
    return this.once(`constant ${type} ${dims.join()} ${values.join()}`, () => {
      const data = type === 'int64' ? values.map((value) => BigInt(value)) : values;
      return this.onnx.initializer(`constant#${this.memo.size}`, type, dims, data);
    });
  }

  /** Whether a tensor is what `constant` made. */
  isConstant(name: Name): boolean {
    return name.startsWith('constant#');
  }

  /** Something made at most once a graph. */
  once(key: string, make: () => Name): Name {
    let name = this.memo.get(key);
    if (name === undefined) {
      name = make();
      this.memo.set(key, name);
    }
    return name;
  }

  /** `x` of dims `from` in the shape `to`. */
  reshape(x: Name, from: Dims, to: Dims): Name {
    return sameDims(from, to) ? x : this.op('Reshape', [x, this.target(from, to)]);
  }

  /** An int64 tensor that holds `dims`. */
  shape(dims: Dims): Name {
    if (dims.every((dim) => dim.isStatic))
      return this.constant(
        'int64',
        [dims.length],
        dims.map((dim) => dim.value),
      );
    return this.once(`shape ${formatDims(dims)}`, () =>
      this.op(
        'Concat',
        dims.map((dim) => this.size(dim)),
        { attributes: { axis: int(0) } },
      ),
    );
  }

  error(what: string): LoweringError {
    return new LoweringError(what, this.path);
  }

  private storageOf(slot: WeightSlot) {
    const { storage } = slot.source;
    if (storage === null) throw this.error(`The weight "${slot.path}" has no values yet; load the weights before compiling.`);
    return storage;
  }

  /** Reshape's second input: 0 copies a dim, -1 is what remains. */
  private target(from: Dims, to: Dims): Name {
    const sizes = to.map((dim, i) => (dim.isStatic ? dim.value : from[i]?.equals(dim) === true ? 0 : -1));
    if (sizes.filter((size) => size === -1).length > 1) return this.shape(to);
    return this.constant('int64', [sizes.length], sizes);
  }

  /** One dim as an int64 tensor [1]. */
  private size(dim: Dim): Name {
    if (dim.isStatic) return this.constant('int64', [1], [dim.value]);
    const factors = dim
      .toString()
      .split('*')
      .map((factor) => this.factor(factor));
    return factors.reduce((product, factor) => this.op('Mul', [product, factor]));
  }

  private factor(factor: string): Name {
    if (/^\d+$/.test(factor)) return this.constant('int64', [1], [Number(factor)]);
    const source = this.symbols.get(factor);
    if (source === undefined) throw this.error(`No input of the graph has the dimension "${factor}".`);
    return this.once(`symbol ${factor}`, () =>
      this.op('Shape', [source.input], { attributes: { start: int(source.axis), end: int(source.axis + 1) } }),
    );
  }
}

/** Elements of a head in the cache: the attention kernel takes multiples of 8, so other heads are padded with zeros. */
export function cacheWidth(headDim: number): number {
  return Math.ceil(headDim / 8) * 8;
}

/** Dims of a cache in the ONNX graph: [batch, heads, rows, headDim], heads padded. */
export function cacheDims(dims: Dims): (number | string)[] {
  return [...declaredDims(dims.slice(0, -1)), cacheWidth(dims.at(-1)!.value)];
}

/** Dims of an ONNX input or output: numbers and names of symbols. */
export function declaredDims(dims: Dims): (number | string)[] {
  return dims.map((dim) => (dim.isStatic ? dim.value : dim.toString()));
}
