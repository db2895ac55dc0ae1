import { NativeResource } from '@graft/common';
import { OrtBusyError } from './errors.ts';
import { type Handle, outOf } from './ort-api.ts';
import type { OrtValue } from './ort-value.ts';
import type { Session } from './session.ts';

/** The values that a run reads and writes, which it keeps alive together with their memory. One run at a time may use a binding. */
export class IoBinding extends NativeResource {
  readonly session: Session;
  /** @internal */
  readonly handle: Handle<'IoBinding'>;
  private readonly bound = { Input: new Map<string, OrtValue>(), Output: new Map<string, OrtValue>() };
  private busy = false;

  /** Use `session.bind()`. @internal */
  constructor(session: Session) {
    super();
    session.assertUsable();
    this.session = session;
    this.handle = outOf<Handle<'IoBinding'>>((out) => this.calls.CreateIoBinding(session.handle, out));
    session.retain();
  }

  /** Binds `value` to an input and replaces the value bound before. @throws OrtNameError, OrtBusyError, DisposedError */
  bindInput(name: string, value: OrtValue): this {
    return this.bind('Input', name, value);
  }

  /** Makes the run write an output into the memory of `value`. An input may use the same memory where the op allows it. */
  bindOutput(name: string, value: OrtValue): this {
    return this.bind('Output', name, value);
  }

  /** Marks the binding as used by a run, until `end`. @internal */
  begin(): void {
    this.assertIdle();
    this.retain();
    this.busy = true;
  }

  /** @internal */
  end(): void {
    this.busy = false;
    this.release();
  }

  protected override describe(): string {
    return 'The binding';
  }

  protected override free(): void {
    this.calls.ReleaseIoBinding(this.handle);
    for (const values of Object.values(this.bound)) for (const value of values.values()) value.release();
    this.session.release();
  }

  private bind(kind: 'Input' | 'Output', name: string, value: OrtValue): this {
    const values = this.bound[kind];
    this.assertIdle();
    value.assertUsable();
    if (values.get(name) === value) return this;
    this.session.expectName(kind, name);
    this.calls[`Bind${kind}`](this.handle, name, value.handle);
    value.retain();
    values.get(name)?.release();
    values.set(name, value);
    return this;
  }

  private get calls() {
    return this.session.environment.api.calls;
  }

  private assertIdle(): void {
    this.assertUsable();
    if (this.busy) {
      const fix = 'await the run first, or use one binding for each concurrent run.';
      throw new OrtBusyError({ what: 'A run is using this binding.', fix });
    }
  }
}
