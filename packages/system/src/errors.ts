import { type GraftErrorFacts, graftError } from '@graft/common';

const withCode = (code: GraftErrorFacts['code']) => graftError(code, (facts: Omit<GraftErrorFacts, 'code'>) => facts);

/** A native library does not load. */
export class NativeLibraryError extends withCode('GRAFT_NATIVE_LIBRARY') {}

/** Memory cannot be had or mapped, or a range of it is out of bounds or misaligned. */
export class NativeMemoryError extends withCode('GRAFT_NATIVE_MEMORY') {}
