import { expectValid, keysAt, quotedList } from '@graft/common';
import type { z } from 'zod';
import type { HostTensor } from '../backend.ts';
import type { DType } from '../dtype.ts';
import { OpFaultyError, OpInputError, runPart } from '../errors.ts';
import { GraphRecorder, type TensorType } from '../graph-recorder.ts';
import { Dim, type Dims, formatDims, watchSizes } from '../shape.ts';
import { describeResult, type Operand, SymbolicTensor } from '../tensor.ts';

/** By the name that an op declares. An optional input that was not given is null. */
export type InputRecord<Names extends readonly string[], Optional extends readonly string[], V> = { readonly [N in Names[number]]: V } & {
  readonly [N in Optional[number]]: V | null;
};
type Types<Names extends readonly string[], Optional extends readonly string[]> = InputRecord<Names, Optional, TensorType>;
type Tensors<Names extends readonly string[], Optional extends readonly string[]> = { readonly [N in Names[number]]: Operand } & {
  readonly [N in Optional[number]]?: Operand | null;
};
type Results<R> = R extends readonly TensorType[] ? { [K in keyof R]: SymbolicTensor } : SymbolicTensor;

/** The facts that an interpreter's kernel gets besides its inputs. */
export interface KernelContext {
  /** Dimensions of each output as inference gave them, with the step's sizes in place of symbols. */
  readonly outputDims: readonly (readonly number[])[];
  /** Refuses the values of an input; inference cannot see them. @throws ProgramInputError */
  fail(what: string): never;
}

/** An input of a sample: random numbers in [0.1, 1), or whole numbers in [0, below). A cache, which the op writes, starts with zeros. */
export interface SampleInput {
  readonly dims: readonly number[];
  readonly dtype?: DType;
  readonly below?: number;
  /** Of every element, in place of random ones. */
  readonly value?: number;
  readonly isWeight?: boolean;
}

/** A call that compares lowerings with the interpreter. An input that it leaves out is float32 [2, 3, 8]. */
export interface OpSample {
  readonly inputs?: Readonly<Record<string, SampleInput>>;
  readonly attributes?: Readonly<Record<string, unknown>>;
}

/** Everything known about an op. Backends add a lowering. */
export interface OpFacts {
  readonly name: string;
  /** The plugin that brings it; null for an op of Graft. */
  readonly plugin: string | null;
  readonly inputs: readonly string[];
  readonly optional: readonly string[];
  /** The op writes its hidden output i, after those that `forward` sees, to the memory of input `inPlaceOf[i]`. */
  readonly inPlaceOf: readonly string[];
  /** Each output element depends on the input elements at the same (broadcast) place only. */
  readonly elementwise: boolean;
  readonly attributes: z.ZodType<Record<string, unknown>>;
  inferTypes(inputs: Record<string, TensorType | null>, attributes: Record<string, unknown>): readonly TensorType[];
  /** Records the op as other ops; null if it has no such form. */
  readonly decompose: ((inputs: never, attributes: never) => SymbolicTensor | readonly SymbolicTensor[]) | null;
  /** The interpreter's kernel for a plugin's op; null for an op of Graft, or one that decomposes. */
  readonly kernel: ((inputs: never, attributes: never, context: KernelContext) => readonly HostTensor[]) | null;
  /** Null for an op that cannot be compared alone. */
  readonly samples: readonly OpSample[] | null;
}

export interface OpDeclaration<
  Names extends readonly string[],
  Optional extends readonly string[],
  Attributes extends z.ZodType<Record<string, unknown>>,
  R extends TensorType | readonly TensorType[],
> {
  name: string;
  inputs: Names;
  optional?: Optional;
  /** Inputs that the op also writes, such as a KV cache. */
  inPlaceOf?: readonly Names[number][];
  elementwise?: boolean;
  /** Inputs that must be float32. */
  floats?: readonly Names[number][];
  /** The result is a list, even of one. */
  list?: boolean;
  attributes: Attributes;
  infer(inputs: Types<Names, Optional>, attributes: z.output<Attributes>): R;
  /** The plugin that brings the op, for errors. */
  plugin?: string;
  /**
   * The op as smaller ones, for a backend without a lowering of it. Called while a graph is recorded.
   * @returns the outputs that `forward` sees, of the types that `infer` gives.
   */
  decompose?(
    inputs: InputRecord<Names, Optional, SymbolicTensor>,
    attributes: z.output<Attributes>,
  ): SymbolicTensor | readonly SymbolicTensor[];
  /** The op for the interpreter, the oracle of all backends. Not needed for an op that decomposes. */
  kernel?(
    inputs: InputRecord<Names, Optional, HostTensor>,
    attributes: z.output<Attributes>,
    context: KernelContext,
  ): readonly HostTensor[];
  /** Default: one call with float32 [2, 3, 8] for each input. */
  samples?: readonly OpSample[] | null;
}

export type Op<
  Names extends readonly string[],
  Optional extends readonly string[],
  Attributes extends z.ZodType<Record<string, unknown>>,
  R extends TensorType | readonly TensorType[],
> = OpFacts & {
  readonly attributes: Attributes;
  (
    ...args: Record<string, never> extends z.input<Attributes>
      ? [inputs: Tensors<Names, Optional>, attributes?: z.input<Attributes>]
      : [inputs: Tensors<Names, Optional>, attributes: z.input<Attributes>]
  ): Results<R>;
};

/**
 * Declares an op once: inputs, attributes, inference, and how it runs if no backend lowers it (`decompose`, or a `kernel` for the interpreter).
 * The result is the function that `forward` calls. Ops are told apart by identity, so a plugin exports one value.
 */
export function defineOp<
  const Names extends readonly string[],
  const Optional extends readonly string[] = [],
  Attributes extends z.ZodType<Record<string, unknown>> = z.ZodType<Record<string, unknown>>,
  R extends TensorType | readonly TensorType[] = TensorType,
>(declaration: OpDeclaration<Names, Optional, Attributes, R>): Op<Names, Optional, Attributes, R> {
  checkDeclaration(declaration);
  const { name, inputs, optional = [] as unknown as Optional, inPlaceOf = [], floats = [], attributes: schema } = declaration;
  const known = new Set<string>([...inputs, ...optional]);

  const inferTypes = (types: Record<string, TensorType | null>, attributes: Record<string, unknown>): readonly TensorType[] => {
    const given = runPart(facts, 'infer', undefined, () => declaration.infer(types as never, attributes as never));
    const results: readonly TensorType[] = Array.isArray(given) ? given : [given];
    for (const type of results)
      if (typeof type?.dtype !== 'string' || !Array.isArray(type.dims) || !type.dims.every((dim) => dim instanceof Dim))
        throw new OpFaultyError(
          facts,
          `Its infer gave ${describeResult(type)}, expected { dtype, dims } with dims as those of its inputs.`,
        );
    return [...results, ...inPlaceOf.map((input) => types[input]!)];
  };

  const validAttributes = (attributes: unknown): z.output<Attributes> =>
    expectValid(schema, attributes, 'the record', (problems) => {
      const names = keysAt(schema, []);
      const fix = names.length === 0 ? 'pass no attributes.' : `correct them; the attributes are ${quotedList(names, '', 'and')}.`;
      return new OpInputError(name, `Its attributes are wrong: ${problems}.`, fix);
    });
  let withoutAttributes: z.output<Attributes> | null = null; // parsed once: most calls give none

  function call(given: Record<string, SymbolicTensor | null | undefined>, attributes?: unknown): unknown {
    const recorder = GraphRecorder.activeFor(name);
    const tensors: Record<string, SymbolicTensor | null> = {};
    for (const input of known) tensors[input] = checkInput(facts, input, given[input], recorder, floats.includes(input));
    for (const input of Object.keys(given))
      if (!known.has(input)) throw new OpInputError(name, `Input "${input}" is unknown; the inputs are ${[...known].join(', ')}.`);
    const valid = attributes === undefined ? (withoutAttributes ??= validAttributes({})) : validAttributes(attributes);
    const types = inferTypes(tensors, valid);
    const visible = recorder.op(call as unknown as OpFacts, tensors, valid, types).slice(0, types.length - inPlaceOf.length);
    return declaration.list === true ? visible : visible[0];
  }
  const { elementwise = false, plugin = null, decompose = null, kernel = null, samples = [{}] } = declaration;
  const facts: OpFacts = {
    name,
    plugin,
    inputs,
    optional,
    inPlaceOf,
    elementwise,
    attributes: schema,
    inferTypes,
    decompose,
    kernel,
    samples,
  };
  Object.defineProperty(call, 'name', { writable: true });
  return Object.assign(call, facts) as unknown as Op<Names, Optional, Attributes, R>;
}

function checkDeclaration(declaration: object): void {
  const { name, plugin = null, ...parts } = (declaration ?? {}) as Record<string, unknown>;
  const isFunction = (part: unknown): boolean => typeof part === 'function';
  const areNames = (part: unknown): boolean => Array.isArray(part) && part.every((one) => typeof one === 'string');
  const checks: readonly (readonly [part: string, isRight: boolean, expected: string])[] = [
    ['name', typeof name === 'string' && name !== '', 'a text'],
    ['inputs', areNames(parts['inputs']), 'a list of names'],
    ['optional', areNames(parts['optional'] ?? []), 'a list of names'],
    ['attributes', isFunction((parts['attributes'] as { safeParse?: unknown } | undefined)?.safeParse), 'a zod schema'],
    ['infer', isFunction(parts['infer']), 'a function'],
    ...['decompose', 'kernel'].map((part) => [part, isFunction(parts[part] ?? isFunction), 'a function'] as const),
  ];
  for (const [part, isRight, expected] of checks)
    if (!isRight) {
      const given = part === 'name' ? name : parts[part];
      throw new OpFaultyError(
        { name: String(name), plugin: plugin as string | null },
        `Its ${part} is ${describeResult(given)}, expected ${expected}.`,
      );
    }
}

function checkInput(
  { name: op, inputs }: OpFacts,
  input: string,
  tensor: SymbolicTensor | null | undefined,
  recorder: GraphRecorder,
  isFloat: boolean,
): SymbolicTensor | null {
  if (tensor === undefined || tensor === null) {
    if (inputs.includes(input)) throw new OpInputError(op, `Input "${input}" is missing.`);
    return null;
  }
  const expected = !(tensor instanceof SymbolicTensor) ? 'a tensor' : isFloat && tensor.dtype !== 'float32' ? 'float32' : null;
  if (expected !== null) {
    const by = recorder.returnedBy.get(tensor);
    const is = `Input "${input}" is ${describeResult(tensor)}${by === undefined ? '' : `, which ${by} returned`}`;
    const fix =
      expected === 'float32' ? "cast it: x.cast('float32')." : by === undefined ? undefined : 'return what the base class returns.';
    throw new OpInputError(op, `${is}; expected ${expected}.`, fix);
  }
  if (tensor.recorder !== recorder)
    throw new OpInputError(op, `Input "${input}" belongs to another capture; pass it as an argument of forward.`);
  return tensor;
}

/**
 * Dimensions of the result when `a` and `b` are aligned at their last axis and a static 1 stretches. It asks for no size: a symbol and 1 give the symbol,
 * and two different symbols do not broadcast.
 */
export function broadcast(op: string, a: Dims, b: Dims): Dims {
  return watchSizes(null, () => broadcastDims(op, a, b));
}

function broadcastDims(op: string, a: Dims, b: Dims): Dims {
  const rank = Math.max(a.length, b.length);
  const one = Dim.of(1);
  return Array.from({ length: rank }, (_, i) => {
    const left = a[a.length - rank + i] ?? one;
    const right = b[b.length - rank + i] ?? one;
    if (left.equals(right) || right.equals(one)) return left;
    if (left.equals(one)) return right;
    throw new OpInputError(op, `Shapes ${formatDims(a)} and ${formatDims(b)} do not broadcast.`);
  });
}
