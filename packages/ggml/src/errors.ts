import { type GraftErrorFacts, graftError } from '@graft/common';

const withCode = (code: GraftErrorFacts['code']) => graftError(code, (facts: Omit<GraftErrorFacts, 'code'>) => facts);

/** ggml has no library for this operating system or processor. */
export class GgmlPlatformError extends withCode('GRAFT_GGML_PLATFORM') {}

/** The ggml library is missing, or differs from the headers that this package was written for. */
export class GgmlLibraryError extends withCode('GRAFT_GGML_LIBRARY') {}

/** ggml refuses a device, memory or a graph. */
export class GgmlCallError extends withCode('GRAFT_GGML_CALL') {}

/** A type, shape, stride, index or size that ggml would answer with the end of the process. */
export class GgmlTensorError extends graftError('GRAFT_GGML_TENSOR', (where: string, what: string, fix?: string) => ({
  what,
  where,
  fix,
})) {}

/** A computation begins while another one runs on the same stream. */
export class GgmlBusyError extends graftError('GRAFT_GGML_BUSY', () => ({
  what: 'The stream is computing a graph.',
  fix: 'await it first, or open a second stream.',
})) {}

/** ggml ends the process. The text is printed, because nobody can catch the error. */
export class GgmlAbortError extends graftError(
  'GRAFT_GGML_ABORT',
  (said: string, where: string, computing: string[], lastCall: string) => ({
    what: `ggml ended the process: ${said}\n${[...computing.map((each) => `  It computed ${each}.`), `  The last call was ${lastCall}.`].join('\n')}`,
    where,
    fix: 'start again. If it ends here again, report this text, and use the backend onnxruntime in the meantime.',
  }),
) {}

/** A device lacks a computation, or has it for other types or shapes. */
export class GgmlUnsupportedError extends graftError('GRAFT_GGML_UNSUPPORTED', (computation: string, where: string) => ({
  what: `The device does not compute ggml's ${computation} of these types and shapes.`,
  where,
  fix: 'compute it on the CPU, or lower the op in another way.',
})) {}
