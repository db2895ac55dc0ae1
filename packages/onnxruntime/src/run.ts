import { OrtOptionsError } from './errors.ts';
import type { IoBinding } from './io-binding.ts';
import { type Handle, type OrtApi, outOf } from './ort-api.ts';
import type { Session } from './session.ts';

export interface RunOptions {
  /** Stops the run at the next node; the run then rejects with the signal's reason. */
  signal?: AbortSignal;
}

type RunOptionsHandle = Handle<'RunOptions'>;

/** Native run options, made once and used again: a run that was stopped leaves them usable. */
export class RunOptionsPool implements Disposable {
  private readonly api: OrtApi;
  private readonly idle: RunOptionsHandle[] = [];

  constructor(api: OrtApi) {
    this.api = api;
  }

  take(): RunOptionsHandle {
    return this.idle.pop() ?? outOf<RunOptionsHandle>((out) => this.api.calls.CreateRunOptions(out));
  }

  giveBack(handle: RunOptionsHandle): void {
    this.idle.push(handle);
  }

  [Symbol.dispose](): void {
    for (const handle of this.idle.splice(0)) this.api.calls.ReleaseRunOptions(handle);
  }
}

/** @internal */
export function runSync(session: Session, binding: IoBinding): void {
  using use = beginRun(session, binding);
  session.environment.api.calls.RunWithBinding(session.handle, use.options, binding.handle);
}

/** @internal */
export async function runAsync(session: Session, binding: IoBinding, { signal }: RunOptions): Promise<void> {
  signal?.throwIfAborted();
  using use = beginRun(session, binding);
  const { api } = session.environment;
  const stop = (): void => api.calls.RunOptionsSetTerminate(use.options);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    await api.callAsync('RunWithBinding', session.handle, use.options, binding.handle);
  } catch (error) {
    throw signal?.aborted === true ? signal.reason : error;
  } finally {
    signal?.removeEventListener('abort', stop);
    if (signal?.aborted === true) api.calls.RunOptionsUnsetTerminate(use.options);
  }
}

/** Holds the session, the binding and run options until disposed, so that none of them is freed under the run. */
function beginRun(session: Session, binding: IoBinding): Disposable & { options: RunOptionsHandle } {
  session.assertUsable();
  if (binding.session !== session) {
    throw new OrtOptionsError({ what: 'The binding belongs to another session.', fix: "create it with this session's createBinding()." });
  }
  binding.begin();
  session.retain();
  binding.retain();
  const options = session.runOptions.take();
  return {
    options,
    [Symbol.dispose]() {
      session.runOptions.giveBack(options);
      binding.end();
      binding.release();
      session.release();
    },
  };
}
