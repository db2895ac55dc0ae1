import type { z } from 'zod';
import { OpInputError } from '../errors.ts';
import { GraphRecorder, type TensorType } from '../graph-recorder.ts';
import { type Operand, SymbolicTensor } from '../tensor.ts';
import type { OpName } from './index.ts';

type Types<Names extends readonly string[], Optional extends readonly string[]> = { readonly [N in Names[number]]: TensorType } & {
  readonly [N in Optional[number]]: TensorType | null;
};
type Tensors<Names extends readonly string[], Optional extends readonly string[]> = { readonly [N in Names[number]]: Operand } & {
  readonly [N in Optional[number]]?: Operand | null;
};
type Results<R> = R extends readonly TensorType[] ? { [K in keyof R]: SymbolicTensor } : SymbolicTensor;

/** All that is known of an op; backends add a lowering or a kernel for its name. */
export interface OpFacts {
  readonly name: string;
  readonly inputs: readonly string[];
  readonly optional: readonly string[];
  /** Output i is written to the memory of input `inPlaceOf[i]`; only outputs after the first ones that `forward` sees. */
  readonly inPlaceOf: readonly string[];
  /** Each output element depends on the input elements at the same (broadcast) place only. */
  readonly elementwise: boolean;
  readonly attributes: z.ZodType<Record<string, unknown>>;
  inferTypes(inputs: Record<string, TensorType | null>, attributes: Record<string, unknown>): readonly TensorType[];
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
  /** The result is a list, even of one. */
  list?: boolean;
  attributes: Attributes;
  infer(inputs: Types<Names, Optional>, attributes: z.output<Attributes>): R;
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

/** Declares an op once: its inputs, attributes and inference. The result is the function that `forward` calls. */
export function defineOp<
  const Names extends readonly string[],
  const Optional extends readonly string[] = [],
  Attributes extends z.ZodType<Record<string, unknown>> = z.ZodType<Record<string, unknown>>,
  R extends TensorType | readonly TensorType[] = TensorType,
>(declaration: OpDeclaration<Names, Optional, Attributes, R>): Op<Names, Optional, Attributes, R> {
  const { name, inputs, optional = [] as unknown as Optional, inPlaceOf = [], elementwise = false, attributes: schema } = declaration;
  const known = new Set<string>([...inputs, ...optional]);

  const inferTypes = (types: Record<string, TensorType | null>, attributes: Record<string, unknown>): readonly TensorType[] => {
    const result = declaration.infer(types as Types<Names, Optional>, attributes as z.output<Attributes>);
    return [
      ...(Array.isArray(result) ? (result as readonly TensorType[]) : [result as TensorType]),
      ...inPlaceOf.map((input) => types[input]!),
    ];
  };

  let withoutAttributes: ReturnType<typeof schema.safeParse> | null = null; // parsed once: most calls give none
  const parse = (attributes: unknown) =>
    attributes === undefined ? (withoutAttributes ??= schema.safeParse({})) : schema.safeParse(attributes);

  const call = (given: Record<string, SymbolicTensor | null | undefined>, attributes?: unknown): unknown => {
    const recorder = GraphRecorder.active;
    const tensors: Record<string, SymbolicTensor | null> = {};
    for (const input of known) tensors[input] = checkInput(name, input, given[input], recorder, inputs.includes(input));
    for (const input of Object.keys(given))
      if (!known.has(input)) throw new OpInputError(name, `There is no input "${input}"; there are ${[...known].join(', ')}.`);
    const parsed = parse(attributes);
    if (!parsed.success)
      throw new OpInputError(
        name,
        `Its attributes are wrong: ${parsed.error.issues.map((i) => `${i.path.join('.')}: ${i.message}`).join('; ')}`,
      );
    const types = inferTypes(tensors, parsed.data);
    const visible = recorder.op(name as OpName, tensors, parsed.data, types).slice(0, types.length - inPlaceOf.length);
    return declaration.list === true ? visible : visible[0];
  };
  const facts: OpFacts = { name, inputs, optional, inPlaceOf, elementwise, attributes: schema, inferTypes };
  Object.defineProperty(call, 'name', { value: name });
  const { name: _, ...assignable } = facts;
  return Object.assign(call, assignable) as unknown as Op<Names, Optional, Attributes, R>;
}

function checkInput(
  op: string,
  input: string,
  tensor: SymbolicTensor | null | undefined,
  recorder: GraphRecorder,
  required: boolean,
): SymbolicTensor | null {
  if (tensor === undefined || tensor === null) {
    if (required) throw new OpInputError(op, `Input "${input}" is missing.`);
    return null;
  }
  if (!(tensor instanceof SymbolicTensor)) throw new OpInputError(op, `Input "${input}" is no tensor but ${typeof tensor}.`);
  if (tensor.recorder !== recorder)
    throw new OpInputError(op, `Input "${input}" belongs to another capture; pass it as an argument of forward.`);
  return tensor;
}
