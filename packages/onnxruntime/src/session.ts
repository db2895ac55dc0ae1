import { NativeResource } from '@graft/common';
import { PinnedBuffer } from '@graft/system';
import type { Environment } from './environment.ts';
import { OrtNameError, OrtOptionsError } from './errors.ts';
import { IoBinding } from './io-binding.ts';
import { type Handle, type Out, outOf } from './ort-api.ts';
import type { OrtValue } from './ort-value.ts';
import { createOptions, type SessionOptions } from './session-options.ts';

export interface RunOptions {
  /** Stops the run at the next node. The run then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
}

/** A loaded model. Runs with different bindings may overlap. A session that is disposed during a run is freed when the run ends. */
export class Session extends NativeResource {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  /** @internal */
  readonly environment: Environment;
  /** @internal */
  readonly handle: Handle<'Session'>;
  private readonly initializers: readonly OrtValue[];

  /** Takes over the handle, and the users that the caller has retained. @internal */
  constructor(environment: Environment, handle: Handle<'Session'>, initializers: readonly OrtValue[]) {
    super();
    this.environment = environment;
    this.handle = handle;
    this.initializers = initializers;
    this.inputNames = this.readNames('Input');
    this.outputNames = this.readNames('Output');
  }

  /** A binding with these inputs and outputs. Create one for each set of buffers; binding other values later costs microseconds. */
  bind({
    inputs = {},
    outputs = {},
  }: {
    inputs?: Readonly<Record<string, OrtValue>>;
    outputs?: Readonly<Record<string, OrtValue>>;
  }): IoBinding {
    const binding = new IoBinding(this);
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
   * Runs on another thread. After an abort the outputs are partly written.
   * @throws OrtCallError; OrtBusyError when another run uses the binding; DisposedError
   */
  async run(binding: IoBinding, { signal }: RunOptions = {}): Promise<void> {
    signal?.throwIfAborted();
    this.assertUsable();
    if (binding.session !== this) {
      throw new OrtOptionsError({ what: 'The binding belongs to another session.', fix: "create it with this session's bind()." });
    }
    binding.begin();
    this.retain();
    const { api } = this.environment;
    const options = outOf<Handle<'RunOptions'>>((out) => api.calls.CreateRunOptions(out));
    const stop = (): void => api.calls.RunOptionsSetTerminate(options);
    signal?.addEventListener('abort', stop, { once: true });
    try {
      await api.callAsync('RunWithBinding', this.handle, options, binding.handle);
    } catch (error) {
      throw signal?.aborted === true ? signal.reason : error;
    } finally {
      signal?.removeEventListener('abort', stop);
      api.calls.ReleaseRunOptions(options);
      binding.end();
      this.release();
    }
  }

  /** Ends profiling and returns the path of the profile. */
  endProfiling(): string {
    this.assertUsable();
    const { api } = this.environment;
    return api.takeString((out) => api.calls.SessionEndProfiling(this.handle, api.allocator, out));
  }

  /** @internal */
  expectName(kind: 'Input' | 'Output', name: string): void {
    const known = kind === 'Input' ? this.inputNames : this.outputNames;
    if (known.includes(name)) return;
    throw new OrtNameError({ what: `The session has no ${kind.toLowerCase()} "${name}".`, fix: `use one of: ${known.join(', ')}.` });
  }

  protected override describe(): string {
    return 'The session';
  }

  protected override free(): void {
    this.environment.api.calls.ReleaseSession(this.handle);
    for (const value of this.initializers) value.release();
    this.environment.release();
  }

  private readNames(kind: 'Input' | 'Output'): string[] {
    const { api } = this.environment;
    const count = Number(outOf<number | bigint>((out) => api.calls[`SessionGet${kind}Count`](this.handle, out)));
    return Array.from({ length: count }, (_, index) =>
      api.takeString((out) => api.calls[`SessionGet${kind}Name`](this.handle, index, api.allocator, out)),
    );
  }
}

/** @internal */
export async function openSession(
  environment: Environment,
  model: Uint8Array,
  { signal, ...options }: SessionOptions & RunOptions,
): Promise<Session> {
  signal?.throwIfAborted();
  environment.assertUsable();
  const { api } = environment;
  const handle = createOptions(environment, options);
  // The bytes move out of the heap, because the caller may change or drop them while the other thread reads them.
  const bytes = PinnedBuffer.from(model);
  const initializers = [...(options.initializers?.values() ?? [])].map((value) => value.retain());
  environment.retain();
  const cancel = (): void => api.calls.SessionOptionsSetLoadCancellationFlag(handle, true);
  signal?.addEventListener('abort', cancel, { once: true });
  const out: Out<Handle<'Session'>> = [null];
  try {
    await api.callAsync('CreateSessionFromArray', environment.handle, bytes.pointer, bytes.byteLength, handle, out);
    if (signal?.aborted === true) {
      api.calls.ReleaseSession(out[0] as Handle<'Session'>);
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
    api.calls.ReleaseSessionOptions(handle);
  }
}
