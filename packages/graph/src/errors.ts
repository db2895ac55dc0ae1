import { GraftError, type GraftErrorFacts, graftError, messageOf } from '@graft/common';
import type { OpFacts } from './ops/define-op.ts';

const modelPath = (path: string): string => path || 'the model itself';

/** A storage lacks a part that its format and the parameter's shape need, or has it in another shape. */
export class StorageMismatchError extends graftError('GRAFT_STORAGE_MISMATCH', (what: string, where?: string) => ({
  what,
  where,
  fix: 'use a format that fits the shape, or float32.',
})) {}

/** The values of a parameter are read before the weights are loaded. */
export class ParameterWithoutStorageError extends graftError(
  'GRAFT_PARAMETER_WITHOUT_STORAGE',
  (shape: readonly number[], where?: string) => ({
    what: `A parameter of shape [${shape.join(', ')}] has no values yet.`,
    where,
    fix: 'load the weights first: a hook reads values in phase postLoad.',
  }),
) {}

/** Dimensions do not fit together. */
export class ShapeError extends graftError('GRAFT_SHAPE', (what: string, where?: string) => ({
  what,
  where,
  fix: 'compare the shapes in this message with those that the op expects.',
})) {}

/** A symbolic dimension is used as a number. */
export class DimCoercedError extends graftError('GRAFT_DIM_COERCED', (dim: string) => ({
  what: `Dimension "${dim}" is compared or calculated with as if it were a number.`,
  fix: 'use dim.equals(n), dim.isStatic, dim.times(n) or dim.dividedBy(n).',
})) {}

/** A fault in a method that works with tensors. The capture adds which method. */
export class InMethodError extends GraftError {
  private isPlaced: boolean;

  constructor(facts: GraftErrorFacts, isPlaced = false) {
    super(facts);
    this.isPlaced = isPlaced;
  }

  /** The same error with its place in the model. Returns itself if the place is known. */
  calledBy(path: string, method: string): this {
    if (this.isPlaced) return this;
    const caller = `${modelPath(path)} (${method})`;
    const where = this.where === undefined ? caller : `${this.where}, called by ${caller}`;
    const placed = this.at(where);
    placed.isPlaced = true;
    return placed;
  }
}

/** A tensor is used as if it had values. */
export class TensorCoercedError extends InMethodError {
  constructor(type: string, asked: string) {
    super({
      code: 'GRAFT_TENSOR_COERCED',
      what: `A tensor ${type} is used as a value (${asked}). Values do not exist in forward: it runs once, to record a graph.`,
      fix: 'use ops or methods of tensors, such as x.mul(2). Choose between two values with ops.where.',
    });
  }
}

/** The inputs or attributes of an op are not those that it declares. */
export class OpInputError extends InMethodError {
  constructor(op: string, what: string, fix = 'pass what the docstring of the op asks for.') {
    super({ code: 'GRAFT_OP_INPUT', what, where: `op ${op}`, fix });
  }
}

type OpName = Pick<OpFacts, 'name' | 'plugin'>;

const opOf = ({ name, plugin }: OpName): string => `op "${name}"${plugin === null ? '' : ` of plugin "${plugin}"`}`;

/** A part of an op or of its lowering throws, or gives a wrong result. */
export class OpFaultyError extends InMethodError {
  /** @param op null if unknown. @param path of the module that calls the op. */
  constructor(op: OpName | null, what: string, path?: string, cause?: unknown) {
    const name = op === null ? 'a lowering of a plugin' : opOf(op);
    const where = path === undefined ? name : `${name} at ${modelPath(path)}`;
    super({ code: 'GRAFT_OP_FAULTY', what, where, fix: 'correct that part of the op or lowering.', cause }, path !== undefined);
  }
}

/** Runs a part of an op that a plugin may have written. @throws OpFaultyError */
export function runPart<T>(op: OpName, part: string, path: string | undefined, body: () => T): T {
  try {
    return body();
  } catch (cause) {
    const isOwn = part === 'infer' || !(cause instanceof InMethodError); // infer refuses what the model gives it
    if (GraftError.is(cause) && isOwn) throw cause;
    throw new OpFaultyError(op, `Its ${part} threw: ${messageOf(cause)}`, path, cause);
  }
}

/** A method did not return a tensor, or the model returned something that a graph cannot return. */
export class ModelOutputError extends graftError(
  'GRAFT_MODEL_OUTPUT',
  (
    where: string,
    given: string,
    expected: string = 'a tensor, or tensors in a list or record',
    fix: string = 'return what the base class returns. No method that forward calls can be async.',
  ) => ({ what: `It returned ${given}, expected ${expected}.`, where, fix }),
) {}

/** A method of the model threw an error. */
export class ForwardError extends graftError('GRAFT_FORWARD_FAILED', (path: string, caller: string, fix: string, cause: unknown) => ({
  what: `${caller} threw: ${messageOf(cause)}`,
  where: modelPath(path),
  fix,
  cause,
})) {}

/** An op is called outside of a capture. */
export class NotCapturingError extends graftError('GRAFT_NOT_CAPTURING', (what: string) => ({
  what,
  fix: 'call ops in forward, or in a method that forward calls. A tensor must not outlive its capture.',
})) {}

/** A backend has no lowering of an op, and the op has no decomposition into ops that the backend lowers. */
export class OpNotLoweredError extends graftError('GRAFT_OP_NOT_LOWERED', (op: OpName, path: string, platform: string) => ({
  what: `Platform "${platform}" has no lowering of the ${opOf(op)}, and the op does not decompose.`,
  where: modelPath(path),
  fix: `give the op a decompose, or add a lowering for "${platform}" in a plugin.`,
})) {}

/** A pass or a capture made a graph that breaks the rules of graphs. */
export class GraphInvalidError extends graftError('GRAFT_GRAPH_INVALID', (what: string, where: string) => ({
  what,
  where,
  fix: 'this is a fault of the pass or capture that made the graph: please report it.',
})) {}

/** `forward` touched a `#private` member, which no Proxy can see. */
export class CapturePrivateFieldError extends graftError('GRAFT_CAPTURE_PRIVATE_FIELD', (what: string, where: string, cause: unknown) => ({
  what,
  where,
  fix: 'declare the member with TypeScript\'s "private" instead of "#".',
  cause,
})) {}

/** A method is an arrow function in a field. It holds the instance itself, so capture sees none of its reads. */
export class CaptureArrowFieldError extends graftError('GRAFT_CAPTURE_ARROW_FIELD', (where: string) => ({
  what: 'This method is an arrow function in a field.',
  where,
  fix: 'make it a method of the class.',
})) {}

/** A method is bound. It holds the instance itself, and has a new identity on every layer. */
export class CaptureBoundMethodError extends graftError('GRAFT_CAPTURE_BOUND_METHOD', (where: string) => ({
  what: 'This method is a bound function.',
  where,
  fix: 'install the unbound function (replaceMethod).',
})) {}

/** `forward` assigns to a field. A graph cannot assign, so the second run would differ from the first. */
export class CaptureAssignmentError extends graftError('GRAFT_CAPTURE_ASSIGNMENT', (where: string) => ({
  what: 'forward assigns to a field.',
  where,
  fix: 'use a local variable, or compute the value in the constructor.',
})) {}

/** After `ready`, a step needs a graph that was not captured before. */
export class RecompileRefusedError extends graftError('GRAFT_RECOMPILE_REFUSED', (what: string, where: string) => ({
  what,
  where,
  fix: 'warm up with this shape too, or set onRecompile to "warn" or "allow".',
})) {}

/** A step does not match the inputs of the program's graph. */
export class ProgramInputError extends graftError(
  'GRAFT_PROGRAM_INPUT',
  (what: string, where: string, fix: string = 'compare the step with the inputs and runtime inputs that the model was captured with.') => ({
    what,
    where,
    fix,
  }),
) {}

/** A step of a program starts while another runs. The two would share caches and output memory. */
export class ProgramBusyError extends graftError('GRAFT_PROGRAM_BUSY', () => ({
  what: 'A step of this program is still running.',
  fix: 'await one step before the next.',
})) {}

/** The binding of a runtime input cannot serve it. */
export class RuntimeBindingError extends graftError('GRAFT_RUNTIME_BINDING', (what: string, path: string) => ({
  what,
  where: `runtime input ${path}`,
  fix: 'check what bindRuntimeInput returns for this path and kind.',
})) {}

/** A path does not name a region of the captured model, or two paths name regions of different kinds. */
export class RegionNotFoundError extends graftError('GRAFT_REGION_NOT_FOUND', (what: string, where: string, known: readonly string[]) => ({
  what,
  where,
  fix: known.length === 0 ? 'capture a model that has regions.' : `name two of ${known[0]} to ${known.at(-1)}.`,
})) {}
