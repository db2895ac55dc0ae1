import { GraftError, type GraftErrorFacts } from '@graft/common';

/** The base of every error of this package. */
export class OrtError extends GraftError {}

/** ONNX Runtime's own codes (OrtErrorCode), by number. */
const statusNames = [
  'OK',
  'FAIL',
  'INVALID_ARGUMENT',
  'NO_SUCHFILE',
  'NO_MODEL',
  'ENGINE_ERROR',
  'RUNTIME_EXCEPTION',
  'INVALID_PROTOBUF',
  'MODEL_LOADED',
  'NOT_IMPLEMENTED',
  'INVALID_GRAPH',
  'EP_FAIL',
  'MODEL_LOAD_CANCELED',
  'MODEL_REQUIRES_COMPILATION',
  'NOT_FOUND',
];

/** A call of ONNX Runtime's C API returned a status: the library's own words, its code and the call that failed. */
export class OrtCallError extends OrtError {
  /** The C function, for example `RunWithBinding`. */
  readonly call: string;
  /** ONNX Runtime's name of its code, for example `INVALID_ARGUMENT`. */
  readonly status: string;
  /** The message as ONNX Runtime gave it. */
  readonly statusMessage: string;

  constructor(call: string, statusCode: number, statusMessage: string) {
    const status = statusNames[statusCode] ?? `code ${statusCode}`;
    super({ code: 'GRAFT_ORT_CALL', what: `ONNX Runtime: ${statusMessage}`, where: `${call} (${status})` });
    this.call = call;
    this.status = status;
    this.statusMessage = statusMessage;
  }
}

type Facts = Omit<GraftErrorFacts, 'code'>;

/** This operating system or processor has no library, or not one that this package drives. */
export class OrtPlatformError extends OrtError {
  constructor(facts: Facts) {
    super({ code: 'GRAFT_ORT_PLATFORM', ...facts });
  }
}

/** The ONNX Runtime library was not found, did not load, or is of an unsuited version. */
export class OrtLibraryError extends OrtError {
  constructor(facts: Facts) {
    super({ code: 'GRAFT_ORT_LIBRARY', ...facts });
  }
}

/** Memory could not be mapped, or a range lies outside of it or is not aligned. */
export class OrtMemoryError extends OrtError {
  constructor(facts: Facts) {
    super({ code: 'GRAFT_ORT_MEMORY', ...facts });
  }
}

/** A value's element type, dims and memory do not fit together. */
export class OrtValueError extends OrtError {
  constructor(facts: Facts) {
    super({ code: 'GRAFT_ORT_VALUE', ...facts });
  }
}

/** A session has no input or output of that name. */
export class OrtNameError extends OrtError {
  constructor(kind: 'input' | 'output', name: string, known: readonly string[]) {
    super({ code: 'GRAFT_ORT_NAME', what: `The session has no ${kind} "${name}".`, fix: `use one of: ${known.join(', ')}.` });
  }
}

/** A binding is changed or run while a run that uses it is in flight. */
export class OrtBusyError extends OrtError {
  constructor(what: string) {
    super({ code: 'GRAFT_ORT_BUSY', what, fix: 'await the run first, or use one binding for each concurrent run.' });
  }
}

/** Options of an environment or a session that contradict each other or what already exists in this process. */
export class OrtOptionsError extends OrtError {
  constructor(facts: Facts) {
    super({ code: 'GRAFT_ORT_OPTIONS', ...facts });
  }
}

/** A graph is built wrongly: a name twice, data of another size than its dims. */
export class OnnxBuildError extends OrtError {
  constructor(facts: Facts) {
    super({ code: 'GRAFT_ORT_BUILD', ...facts });
  }
}
