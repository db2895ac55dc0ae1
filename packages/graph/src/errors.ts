import { GraftError, messageOf } from '@graft/common';

/** A storage does not have the parts that its format and the parameter's shape need. */
export class StorageMismatchError extends GraftError {
  constructor(what: string, where?: string) {
    super({
      code: 'GRAFT_STORAGE_MISMATCH',
      what,
      ...(where !== undefined && { where }),
      fix: 'use a format that fits the shape, or float32.',
    });
  }
}

/** The values of a parameter are asked for before the weights are loaded. */
export class ParameterWithoutStorageError extends GraftError {
  constructor(shape: readonly number[], where?: string) {
    super({
      code: 'GRAFT_PARAMETER_WITHOUT_STORAGE',
      what: `A parameter of shape [${shape.join(', ')}] has no values yet.`,
      ...(where !== undefined && { where }),
      fix: 'load the weights first.',
    });
  }
}

/** Dimensions do not fit together. */
export class ShapeError extends GraftError {
  constructor(what: string, where?: string) {
    super({
      code: 'GRAFT_SHAPE',
      what,
      ...(where !== undefined && { where }),
      fix: 'compare the shapes named here with those that the op expects.',
    });
  }
}

/** A symbolic dimension is used as if it were a number. */
export class DimCoercedError extends GraftError {
  constructor(dim: string) {
    super({
      code: 'GRAFT_DIM_COERCED',
      what: `Dimension "${dim}" is compared or calculated with as if it were a number.`,
      fix: 'use dim.equals(n), dim.isStatic, dim.times(n) or dim.dividedBy(n).',
    });
  }
}

/** A tensor is used as if it had values. */
export class TensorCoercedError extends GraftError {
  constructor(type: string, asked: string) {
    super({
      code: 'GRAFT_TENSOR_COERCED',
      what: `A tensor ${type} is used as a value (${asked}). Values do not exist in forward: it runs once, to record a graph.`,
      fix: 'use ops or methods of tensors, such as x.mul(2); choose between two values with ops.where.',
    });
  }
}

/** An op got something else than it declares. */
export class OpInputError extends GraftError {
  private readonly op: string;
  private readonly path: string | null;

  /** @param path of the module whose `forward` calls the op; null until the capture says it. */
  constructor(op: string, what: string, path: string | null = null) {
    super({ code: 'GRAFT_OP_INPUT', what, where: path === null ? `op ${op}` : `op ${op}, called by ${path}` });
    this.op = op;
    this.path = path;
  }

  /** The same, with its place in the model; itself where that is known. */
  calledBy(path: string): OpInputError {
    return this.path === null && path !== '' ? new OpInputError(this.op, this.what, path) : this;
  }
}

/** A method gave something else than tensors, or the model something else than its graph can give back. */
export class ModelOutputError extends GraftError {
  constructor(where: string, given: string, expected = 'a tensor, or tensors in a list or record') {
    super({
      code: 'GRAFT_MODEL_OUTPUT',
      what: `It returned ${given}, expected ${expected}.`,
      where,
      fix: 'return what the base class returns; no method that forward calls can be async.',
    });
  }
}

/** `forward` threw something of its own. */
export class ForwardError extends GraftError {
  constructor(path: string, method: string, cause: unknown) {
    super({
      code: 'GRAFT_FORWARD_FAILED',
      what: `${method} threw: ${messageOf(cause)}`,
      where: path === '' ? 'the model itself' : path,
      fix: 'fix that method; the cause has its stack.',
      cause,
    });
  }
}

/** An op is called while nothing is being captured, or on a tensor of another capture. */
export class NotCapturingError extends GraftError {
  constructor(what: string) {
    super({ code: 'GRAFT_NOT_CAPTURING', what, fix: 'call forward through captureModel; a tensor must not outlive its capture.' });
  }
}

/** A backend has no lowering of an op, and the op no decomposition into ops that it lowers. */
export class OpNotLoweredError extends GraftError {
  constructor({ name, plugin }: { name: string; plugin: string | null }, path: string, platform: string) {
    super({
      code: 'GRAFT_OP_NOT_LOWERED',
      what: `Platform "${platform}" has no lowering of the op "${name}"${plugin === null ? '' : ` of plugin "${plugin}"`}, and the op does not decompose.`,
      where: path === '' ? 'the model itself' : path,
      fix: `give the op a decompose, or add a lowering for "${platform}" in a plugin.`,
    });
  }
}

/** A graph breaks one of its own rules; a pass or a capture is at fault. */
export class GraphInvalidError extends GraftError {
  constructor(what: string, where: string) {
    super({
      code: 'GRAFT_GRAPH_INVALID',
      what,
      where,
      fix: 'this is a fault of the pass or capture that made the graph: please report it.',
    });
  }
}

/** `forward` touched a `#private` member, which no Proxy can see. */
export class CapturePrivateFieldError extends GraftError {
  constructor(what: string, path: string, cause: unknown) {
    super({
      code: 'GRAFT_CAPTURE_PRIVATE_FIELD',
      what,
      where: path,
      fix: 'declare the member with TypeScript\'s "private" instead of "#".',
      cause,
    });
  }
}

/** A method is an arrow function in a field: it holds the instance itself, so that capture sees none of what it reads. */
export class CaptureArrowFieldError extends GraftError {
  constructor(path: string) {
    super({
      code: 'GRAFT_CAPTURE_ARROW_FIELD',
      what: 'This method is an arrow function in a field.',
      where: path,
      fix: 'make it a method of the class.',
    });
  }
}

/** A method was bound: it holds the instance itself, and is a new identity on every layer. */
export class CaptureBoundMethodError extends GraftError {
  constructor(path: string) {
    super({
      code: 'GRAFT_CAPTURE_BOUND_METHOD',
      what: 'This method is a bound function.',
      where: path,
      fix: 'install the unbound function (replaceMethod).',
    });
  }
}

/** `forward` assigned to a field: a graph has no such effect, so the second run would differ from the first. */
export class CaptureAssignmentError extends GraftError {
  constructor(path: string) {
    super({
      code: 'GRAFT_CAPTURE_ASSIGNMENT',
      what: 'forward assigns to a field.',
      where: path,
      fix: 'use a local variable, or compute the value in the constructor.',
    });
  }
}

/** After `ready`, something needed a graph that was not captured before. */
export class RecompileRefusedError extends GraftError {
  constructor(what: string, where: string) {
    super({ code: 'GRAFT_RECOMPILE_REFUSED', what, where, fix: 'warm up with this shape too, or set onRecompile to "warn" or "allow".' });
  }
}

/** A step brings a program something else than its graph takes. */
export class ProgramInputError extends GraftError {
  constructor(what: string, where: string, fix = 'compare the step with the inputs and runtime inputs that the model was captured with.') {
    super({ code: 'GRAFT_PROGRAM_INPUT', what, where, fix });
  }
}

/** A step of a program starts while another one runs: they would share caches and output memory. */
export class ProgramBusyError extends GraftError {
  constructor() {
    super({ code: 'GRAFT_PROGRAM_BUSY', what: 'A step of this program is still running.', fix: 'await one step before the next.' });
  }
}

/** A runtime input is bound to something that cannot serve it. */
export class RuntimeBindingError extends GraftError {
  constructor(what: string, path: string) {
    super({
      code: 'GRAFT_RUNTIME_BINDING',
      what,
      where: `runtime input ${path}`,
      fix: 'check what bindRuntimeInput gives for this path and kind.',
    });
  }
}

/** A path names no region of the captured model, or two paths name regions of different kinds. */
export class RegionNotFoundError extends GraftError {
  constructor(what: string, where: string, known: readonly string[]) {
    const [first, last] = [known[0], known.at(-1)];
    super({
      code: 'GRAFT_REGION_NOT_FOUND',
      what,
      where,
      fix: first === undefined ? 'capture a model that has regions.' : `name two of ${first} to ${last}.`,
    });
  }
}
