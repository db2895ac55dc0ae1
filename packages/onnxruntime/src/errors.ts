import { GraftError, type GraftErrorFacts, graftError } from '@graft/common';

/** ONNX Runtime's names of its codes (OrtErrorCode), by number. */
const statusNames = (
  'OK FAIL INVALID_ARGUMENT NO_SUCHFILE NO_MODEL ENGINE_ERROR RUNTIME_EXCEPTION INVALID_PROTOBUF MODEL_LOADED NOT_IMPLEMENTED ' +
  'INVALID_GRAPH EP_FAIL MODEL_LOAD_CANCELED MODEL_REQUIRES_COMPILATION NOT_FOUND'
).split(' ');

/** A call of ONNX Runtime's C API failed. */
export class OrtCallError extends GraftError {
  /** The C function, for example `RunWithBinding`. */
  readonly call: string;
  /** ONNX Runtime's name of the code, for example `INVALID_ARGUMENT`. */
  readonly status: string;
  /** ONNX Runtime's message, unchanged. */
  readonly statusMessage: string;

  constructor(call: string, statusCode: number, statusMessage: string) {
    const status = statusNames[statusCode] ?? `code ${statusCode}`;
    super({ code: 'GRAFT_ORT_CALL', what: `ONNX Runtime: ${statusMessage}`, where: `${call} (${status})` });
    this.call = call;
    this.status = status;
    this.statusMessage = statusMessage;
  }
}

const withCode = (code: GraftErrorFacts['code']) => graftError(code, (facts: Omit<GraftErrorFacts, 'code'>) => facts);

/** ONNX Runtime has no library for this operating system or processor. */
export class OrtPlatformError extends withCode('GRAFT_ORT_PLATFORM') {}

/** The ONNX Runtime library is missing or has an unsupported version. */
export class OrtLibraryError extends withCode('GRAFT_ORT_LIBRARY') {}

/** A value's element type, dims and memory do not match. */
export class OrtValueError extends withCode('GRAFT_ORT_VALUE') {}

/** The session has no input or output of this name. */
export class OrtNameError extends withCode('GRAFT_ORT_NAME') {}

/** A binding is changed or run while a run uses it. */
export class OrtBusyError extends withCode('GRAFT_ORT_BUSY') {}

/** The options of an environment, a session or a run contradict each other. */
export class OrtOptionsError extends withCode('GRAFT_ORT_OPTIONS') {}

/** An ONNX graph is malformed: a duplicate name, or data whose size differs from its dims. */
export class OnnxBuildError extends withCode('GRAFT_ORT_BUILD') {}
