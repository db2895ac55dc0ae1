import { OrtBusyError } from './errors.ts';
import { type Handle, outOf } from './ort-api.ts';
import { NativeResource } from './resource.ts';
import type { Session } from './session.ts';
import type { Value } from './value.ts';

/** Which values a run reads and writes. Keeps them and their memory alive. One run at a time may use a binding. */
export class IoBinding extends NativeResource {
  readonly session: Session;
  /** @internal */
  readonly handle: Handle<'IoBinding'>;
  private readonly inputs = new Map<string, Value>();
  private readonly outputs = new Map<string, Value>();
  private busy = false;

  /** Use `session.createBinding()`. @internal */
  constructor(session: Session) {
    super();
    this.session = session;
    this.handle = outOf<Handle<'IoBinding'>>((out) => session.environment.api.calls.CreateIoBinding(session.handle, out));
    session.retain();
  }

  /** Binds `value` to an input, in place of what was bound. @throws OrtNameError, OrtBusyError, DisposedError */
  bindInput(name: string, value: Value): this {
    this.assertIdle();
    value.assertUsable();
    if (this.inputs.get(name) === value) return this;
    this.session.expectName('input', name);
    this.calls.BindInput(this.handle, name, value.handle);
    value.retain();
    this.inputs.get(name)?.release();
    this.inputs.set(name, value);
    return this;
  }

  /** Lets the run write an output into `value`'s memory; an input may be bound to the same memory where the op allows it. */
  bindOutput(name: string, value: Value): this {
    this.assertIdle();
    value.assertUsable();
    if (this.outputs.get(name) === value) return this;
    this.session.expectName('output', name);
    this.calls.BindOutput(this.handle, name, value.handle);
    value.retain();
    this.outputs.get(name)?.release();
    this.outputs.set(name, value);
    return this;
  }

  /** Marks the binding as used by a run, until `end`. @internal */
  begin(): void {
    this.assertIdle();
    this.busy = true;
  }

  /** @internal */
  end(): void {
    this.busy = false;
  }

  protected override describe(): string {
    return 'The binding';
  }

  protected override free(): void {
    this.calls.ReleaseIoBinding(this.handle);
    this.releaseValues();
    this.session.release();
  }

  private get calls() {
    return this.session.environment.api.calls;
  }

  private assertIdle(): void {
    this.assertUsable();
    if (this.busy) throw new OrtBusyError('A run with this binding is in flight.');
  }

  private releaseValues(): void {
    for (const value of this.inputs.values()) value.release();
    for (const value of this.outputs.values()) value.release();
    this.inputs.clear();
    this.outputs.clear();
  }
}
