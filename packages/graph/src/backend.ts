import type { CapturedModel } from './capture/capture.ts';
import type { DType } from './dtype.ts';

/** A tensor in ordinary memory, as it is given to a program and taken from it. Row-major. */
export interface HostTensor {
  readonly dtype: DType;
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array | Int32Array | Uint8Array;
}

/** What a runtime slot of the model is bound to. */
export type SlotBinding =
  /** A value of each step, shared by all slots of one KV group: the name under which a step passes it. */
  | { readonly kind: 'input'; readonly name: string }
  /** A KV cache that the program owns: one region of `rows` rows a place. */
  | { readonly kind: 'cache'; readonly rows: number };

export interface CompileOptions {
  /** What each runtime slot (path in the model, kind) is bound to. */
  bindSlot(path: string, kind: string): SlotBinding;
  /** Sequences that a cache has room for. */
  places: number;
  threads?: number;
  signal?: AbortSignal;
  onProgress?(fraction: number, message: string): void;
}

export interface ProgramStep {
  /** Row i of the batch uses the caches of place `firstPlace + i`: a batch is one contiguous group, nothing is copied. */
  readonly firstPlace: number;
  readonly batch: number;
  /** The graph's inputs and the slots bound as `input`, by name. */
  readonly inputs: Readonly<Record<string, HostTensor>>;
  readonly signal?: AbortSignal;
}

/**
 * A compiled model with its caches. Steps are run one at a time. Results by output name; their `data` stays valid until the next `run` only.
 */
export interface Program extends Disposable {
  run(step: ProgramStep): Promise<Record<string, HostTensor>>;
  /** For metrics and `explain`: graphs compiled, bytes of weights and of caches. */
  readonly facts: { readonly graphs: number; readonly weightBytes: number; readonly cacheBytes: number };
}

/**
 * Turns a captured model into something that runs. Implementations come with a platform's plugin; the interpreter is the oracle for all of them.
 * A program holds the weights that it was compiled with: a model that gets other ones meanwhile does not change what it computes, so that a reload can
 * compile a second program while the first one serves.
 */
export interface Backend {
  readonly name: string;
  compile(model: CapturedModel, options: CompileOptions): Promise<Program>;
}
