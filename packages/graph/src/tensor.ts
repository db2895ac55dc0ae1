import type { DType } from './dtype.ts';
import { ModelOutputError, OpInputError, TensorCoercedError } from './errors.ts';
import type { Value } from './graph.ts';
import type { GraphRecorder } from './graph-recorder.ts';
import type { Buffer, Parameter } from './nn/parameter.ts';
import type { RuntimeInput } from './nn/runtime-input.ts';
import { type Dim, type Dims, formatDims } from './shape.ts';

/** A value that `forward` may pass to an op. A field that holds one of these gives a tensor while `forward` is captured. */
export type Operand = SymbolicTensor | Parameter | Buffer | RuntimeInput;

/** Ops of one tensor as methods. `softmax` and the reductions are over the last axis, which a reduction leaves with size 1. */
const unary = ['exp', 'log', 'sqrt', 'tanh', 'floor', 'sigmoid', 'gelu', 'softmax', 'reduceSum', 'reduceMean', 'reduceMax'] as const;
/** Ops of a tensor and another one, or a number, as methods; both broadcast. `less` and `equal` give bools. */
const binary = ['max', 'min', 'less', 'equal'] as const;

type UnaryMethods = Record<(typeof unary)[number], () => SymbolicTensor>;
type BinaryMethods = Record<(typeof binary)[number], (other: Operand | number) => SymbolicTensor>;
export interface SymbolicTensor extends UnaryMethods, BinaryMethods {}

/** A tensor without data. `forward` passes these around while it is captured. Each method calls the op of its name; see its docstring. */
// biome-ignore lint/suspicious/noUnsafeDeclarationMerging: the loops below the class define these methods.
export class SymbolicTensor {
  readonly value: Value;
  readonly recorder: GraphRecorder;

  constructor(value: Value, recorder: GraphRecorder) {
    this.value = value;
    this.recorder = recorder;
  }

  get dtype(): DType {
    return this.value.dtype;
  }

  get dims(): Dims {
    return this.value.dims;
  }

  get rank(): number {
    return this.value.dims.length;
  }

  /** @param axis counts from the end when negative. */
  dim(axis: number): Dim {
    const dim = this.value.dims.at(axis);
    if (dim === undefined) throw new OpInputError('dim', `A tensor of rank ${this.rank} has no axis ${axis}.`);
    return dim;
  }

  get ops(): GraphRecorder['ops'] {
    return this.recorder.ops;
  }

  /** Sum, with broadcasting. */
  add(other: Operand | number): SymbolicTensor {
    return typeof other === 'number' ? this.ops.addScalar({ x: this }, { value: other }) : this.ops.add({ a: this, b: other });
  }

  /** Product, with broadcasting. */
  mul(other: Operand | number): SymbolicTensor {
    return typeof other === 'number' ? this.ops.mulScalar({ x: this }, { value: other }) : this.ops.mul({ a: this, b: other });
  }

  /** Difference, with broadcasting. */
  sub(other: Operand | number): SymbolicTensor {
    return typeof other === 'number' ? this.add(-other) : this.ops.sub({ a: this, b: other });
  }

  /** Quotient, with broadcasting. */
  div(other: Operand | number): SymbolicTensor {
    return typeof other === 'number' ? this.ops.divScalar({ x: this }, { value: other }) : this.ops.div({ a: this, b: other });
  }

  /** This where the condition (bool) holds, else `other`. */
  where(condition: Operand, other: Operand | number): SymbolicTensor {
    return this.ops.where({ condition, a: this, b: this.operand(other) });
  }

  /** Products of the matrices in the last two axes. */
  matmul(other: Operand): SymbolicTensor {
    return this.ops.matmul({ a: this, b: other });
  }

  /** A number as a tensor of this element type. */
  operand(other: Operand | number): Operand {
    if (typeof other !== 'number') return other;
    if (this.dtype === 'bool') throw new OpInputError('constant', `The number ${other} cannot stand next to a bool.`);
    return this.ops.constant({}, { value: other, dtype: this.dtype });
  }

  neg(): SymbolicTensor {
    return this.mul(-1);
  }

  cast(dtype: DType): SymbolicTensor {
    return this.ops.cast({ x: this }, { dtype });
  }

  /** Pass a symbolic dimension as a `Dim` taken from a tensor. */
  reshape(...dims: (number | Dim)[]): SymbolicTensor {
    return this.ops.reshape({ x: this }, { dims });
  }

  /** Axis i of the result is axis `axes[i]` of this. */
  permute(...axes: number[]): SymbolicTensor {
    return this.ops.permute({ x: this }, { axes });
  }

  /** The last axis in pieces of these sizes. */
  split<const Sizes extends readonly number[]>(...sizes: Sizes): { [I in keyof Sizes]: SymbolicTensor } {
    return this.ops.split({ x: this }, { sizes: [...sizes] }) as { [I in keyof Sizes]: SymbolicTensor };
  }

  /** Elements `start` up to, not including, `end` of a static axis. */
  slice(axis: number, start: number, end: number): SymbolicTensor {
    return this.ops.slice({ x: this }, { axis, start, end });
  }

  /** This, then `other`, along a static axis. */
  concat(other: Operand, axis: number): SymbolicTensor {
    return this.ops.concat({ a: this, b: other }, { axis });
  }

  zerosLike(): SymbolicTensor {
    return this.ops.zerosLike({ x: this });
  }
}

const define = (name: string | symbol, value: (this: SymbolicTensor, other: Operand | number) => SymbolicTensor) =>
  Object.defineProperty(SymbolicTensor.prototype, name, { value });
for (const name of unary)
  define(name, function () {
    return this.ops[name]({ x: this });
  });
for (const name of binary)
  define(name, function (other) {
    return this.ops[name]({ a: this, b: this.operand(other) });
  });

export type Tensor = SymbolicTensor;

/** Describes a returned value, for an error. */
export function describeResult(value: unknown): string {
  if (value instanceof SymbolicTensor) return `${value.dtype}${formatDims(value.dims)}`;
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return `a list of ${value.length}`;
  return typeof value === 'object' ? `a ${value.constructor?.name ?? 'record'}` : `a ${typeof value}`;
}

// Defined outside the class: the compiler then refuses `logits * 2`, a template string, `[...x]` and JSON as well.
const coercions = [
  [Symbol.toPrimitive, 'an operator or a template string'],
  [Symbol.iterator, 'for..of or a spread'],
  ...(['valueOf', 'toString', 'toJSON', 'toFloat32'] as const).map((name) => [name, name] as const),
] as const;
for (const [name, asked] of coercions)
  define(name, function (): never {
    const by = name === Symbol.iterator ? this.recorder.returnedBy.get(this) : undefined;
    const fix = 'return a list there, as the base class does, or do not destructure the result.';
    if (by !== undefined) throw new ModelOutputError(by, describeResult(this), 'a list, since its caller destructures it', fix);
    throw new TensorCoercedError(`${this.dtype}${formatDims(this.dims)}`, asked);
  });
