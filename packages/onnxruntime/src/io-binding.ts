import koffi from 'koffi';
import { OrtBusyError, OrtValueError } from './errors.ts';
import { type Handle, type Out, outOf } from './ort-api.ts';
import { NativeResource } from './resource.ts';
import type { Session } from './session.ts';
import { Value } from './value.ts';

/** Which values a run reads and writes. Keeps them and their memory alive. One run at a time may use a binding. */
export class IoBinding extends NativeResource {
  readonly session: Session;
  /** @internal */
  readonly handle: Handle<'IoBinding'>;
  private readonly inputs = new Map<string, Value>();
  /** In the order of first binding, as ONNX Runtime lists them; null where the runtime allocates. */
  private readonly outputSlots = new Map<string, Value | null>();
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
    if (this.outputSlots.get(name) === value) return this;
    this.session.expectName('output', name);
    this.calls.BindOutput(this.handle, name, value.handle);
    value.retain();
    this.outputSlots.get(name)?.release();
    this.outputSlots.set(name, value);
    return this;
  }

  /** Lets ONNX Runtime allocate an output, for outputs whose dims are not known before; read it with `outputs()`. */
  bindOutputToDevice(name: string): this {
    this.assertIdle();
    this.session.expectName('output', name);
    this.calls.BindOutputToDevice(this.handle, name, this.session.environment.api.cpuMemory);
    this.outputSlots.get(name)?.release();
    this.outputSlots.set(name, null);
    return this;
  }

  /**
   * The outputs after a run, in the order of binding. A value bound by `bindOutput` is given back itself; one that the runtime
   * allocated is a new value, which the caller disposes.
   * @throws OrtValueError when there was no run yet.
   */
  outputs(): Map<string, Value> {
    this.assertIdle();
    const handles = this.takeOutputHandles();
    const taken = new Map<string, Value>();
    for (const [index, [name, bound]] of [...this.outputSlots].entries()) {
      const handle = handles[index];
      if (bound !== null) taken.set(name, bound);
      if (bound === null && handle !== undefined) {
        handles[index] = undefined;
        taken.set(name, this.adopt(name, handle));
      }
    }
    for (const handle of handles) if (handle !== undefined) this.calls.ReleaseValue(handle);
    return taken;
  }

  /** Unbinds everything and lets go of the values. */
  clear(): void {
    this.assertIdle();
    this.calls.ClearBoundInputs(this.handle);
    this.calls.ClearBoundOutputs(this.handle);
    this.releaseValues();
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

  private adopt(name: string, handle: Handle<'Value'>): Value {
    try {
      return Value.adopt(this.session.environment.api, handle);
    } catch (cause) {
      this.calls.ReleaseValue(handle);
      throw new OrtValueError({ what: `The output "${name}" has no value.`, fix: 'read outputs after a run that succeeded.', cause });
    }
  }

  private takeOutputHandles(): (Handle<'Value'> | undefined)[] {
    if (this.outputSlots.size === 0) return [];
    const { api } = this.session.environment;
    const values: Out<bigint> = [null];
    const count: Out<number | bigint> = [null];
    this.calls.GetBoundOutputValues(this.handle, api.allocator, values, count);
    if (values[0] === null) return [];
    const handles = koffi.decode(values[0], koffi.array('void *', Number(count[0]))) as (Handle<'Value'> | undefined)[];
    this.calls.AllocatorFree(api.allocator, values[0]);
    return handles;
  }

  private releaseValues(): void {
    for (const value of this.inputs.values()) value.release();
    for (const value of this.outputSlots.values()) value?.release();
    this.inputs.clear();
    this.outputSlots.clear();
  }
}
