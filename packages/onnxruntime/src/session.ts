import { type ElementType, elementTypeOfCode } from './element-type.ts';
import type { Environment } from './environment.ts';
import { OrtNameError } from './errors.ts';
import { IoBinding } from './io-binding.ts';
import { type Handle, type OrtApi, type Out, outOf } from './ort-api.ts';
import { PinnedBuffer } from './pinned.ts';
import { NativeResource } from './resource.ts';
import { type RunOptions, RunOptionsPool, runAsync, runSync } from './run.ts';
import { createOptions, type SessionOptions } from './session-options.ts';
import { tensorFacts } from './tensor-facts.ts';
import type { Value } from './value.ts';

/** An input or output as the model declares it. */
export interface TensorDeclaration {
  readonly name: string;
  /** Null for what this package does not handle (strings, sub-byte types, sequences). */
  readonly type: ElementType | null;
  /** Null where the dim is symbolic. */
  readonly dims: readonly (number | null)[];
}

/**
 * A loaded model. Runs with different bindings may be in flight at once.
 * Disposed during a run, it is freed when the run ends.
 */
export class Session extends NativeResource {
  readonly inputs: readonly TensorDeclaration[];
  readonly outputs: readonly TensorDeclaration[];
  /** @internal */
  readonly environment: Environment;
  /** @internal */
  readonly handle: Handle<'Session'>;
  /** @internal */
  readonly runOptions: RunOptionsPool;
  private readonly initializers: readonly Value[];

  /** Takes over the handle and retained users. @internal */
  constructor(environment: Environment, handle: Handle<'Session'>, initializers: readonly Value[]) {
    super();
    this.environment = environment;
    this.handle = handle;
    this.initializers = initializers;
    this.runOptions = new RunOptionsPool(environment.api);
    this.inputs = declarations(environment.api, handle, 'Input');
    this.outputs = declarations(environment.api, handle, 'Output');
  }

  /** An empty binding. Make one for each sequence or set of buffers; changing what is bound costs microseconds. */
  createBinding(): IoBinding {
    this.assertUsable();
    return new IoBinding(this);
  }

  /** A binding with these inputs and outputs. */
  bind({ inputs = {}, outputs = {} }: { inputs?: Readonly<Record<string, Value>>; outputs?: Readonly<Record<string, Value>> }): IoBinding {
    const binding = this.createBinding();
    try {
      for (const [name, value] of Object.entries(inputs)) binding.bindInput(name, value);
      for (const [name, value] of Object.entries(outputs)) binding.bindOutput(name, value);
      return binding;
    } catch (error) {
      binding[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Runs on this thread; the event loop stands still meanwhile.
   * @throws OrtCallError; OrtBusyError when a run with this binding is in flight; DisposedError
   */
  runSync(binding: IoBinding): void {
    runSync(this, binding);
  }

  /**
   * Runs on another thread. When `signal` is aborted the run stops at the next node and the promise rejects with the signal's reason;
   * the outputs are then partly written.
   * @throws OrtCallError; OrtBusyError when a run with this binding is in flight; DisposedError
   */
  async run(binding: IoBinding, options: RunOptions = {}): Promise<void> {
    await runAsync(this, binding, options);
  }

  /** Ends profiling and gives the path of the file that was written. */
  endProfiling(): string {
    this.assertUsable();
    const { api } = this.environment;
    return api.takeString(outOf<bigint>((out) => api.calls.SessionEndProfiling(this.handle, api.allocator, out)));
  }

  /** @internal */
  expectName(kind: 'input' | 'output', name: string): void {
    const declared = kind === 'input' ? this.inputs : this.outputs;
    if (declared.some((tensor) => tensor.name === name)) return;
    const names = declared.map((tensor) => tensor.name);
    throw new OrtNameError(kind, name, names);
  }

  protected override describe(): string {
    return 'The session';
  }

  protected override free(): void {
    this.runOptions[Symbol.dispose]();
    this.environment.api.calls.ReleaseSession(this.handle);
    for (const value of this.initializers) value.release();
    this.environment.release();
  }
}

/** @internal */
export function openSession(environment: Environment, model: Uint8Array, options: SessionOptions): Session {
  environment.assertUsable();
  const { calls } = environment.api;
  const handle = createOptions(environment, options);
  try {
    const session = outOf<Handle<'Session'>>((out) =>
      calls.CreateSessionFromArray(environment.handle, model, model.byteLength, handle, out),
    );
    return new Session(environment.retain(), session, retained(options));
  } finally {
    calls.ReleaseSessionOptions(handle);
  }
}

/** @internal */
export async function openSessionAsync(
  environment: Environment,
  model: Uint8Array,
  { signal, ...options }: SessionOptions & { signal?: AbortSignal },
): Promise<Session> {
  signal?.throwIfAborted();
  environment.assertUsable();
  const { api } = environment;
  const { calls } = api;
  const handle = createOptions(environment, options);
  // The bytes move out of the heap, since the caller may change or drop them while the other thread reads.
  const bytes = PinnedBuffer.from(model);
  const initializers = retained(options);
  environment.retain();
  const cancel = (): void => calls.SessionOptionsSetLoadCancellationFlag(handle, true);
  signal?.addEventListener('abort', cancel, { once: true });
  const out: Out<Handle<'Session'>> = [null];
  try {
    await api.callAsync('CreateSessionFromArray', environment.handle, bytes.pointer, bytes.byteLength, handle, out);
    if (signal?.aborted === true) {
      calls.ReleaseSession(out[0] as Handle<'Session'>);
      throw signal.reason;
    }
    return new Session(environment, out[0] as Handle<'Session'>, initializers);
  } catch (error) {
    for (const value of initializers) value.release();
    environment.release();
    throw signal?.aborted === true ? signal.reason : error;
  } finally {
    signal?.removeEventListener('abort', cancel);
    bytes[Symbol.dispose]();
    calls.ReleaseSessionOptions(handle);
  }
}

function retained(options: SessionOptions): Value[] {
  return [...(options.initializers?.values() ?? [])].map((value) => value.retain());
}

function declarations(api: OrtApi, session: Handle<'Session'>, kind: 'Input' | 'Output'): TensorDeclaration[] {
  const { calls } = api;
  const count = Number(outOf<number | bigint>((out) => calls[`SessionGet${kind}Count`](session, out)));
  return Array.from({ length: count }, (_, index) => {
    const name = api.takeString(outOf<bigint>((out) => calls[`SessionGet${kind}Name`](session, index, api.allocator, out)));
    const info = outOf<Handle<'TypeInfo'>>((out) => calls[`SessionGet${kind}TypeInfo`](session, index, out));
    try {
      const tensor = outOf<Handle<'TensorInfo'> | null>((out) => calls.CastTypeInfoToTensorInfo(info, out as Out<Handle<'TensorInfo'>>));
      if (tensor === null) return { name, type: null, dims: [] };
      const { typeCode, dims } = tensorFacts(api, tensor);
      return { name, type: elementTypeOfCode(typeCode), dims };
    } finally {
      calls.ReleaseTypeInfo(info);
    }
  });
}
