import { OrtOptionsError } from './errors.ts';
import type { IoBinding } from './io-binding.ts';
import { type Handle, type OrtApi, outOf } from './ort-api.ts';
import type { Session } from './session.ts';

export interface RunOptions {
  /** Stops the run at the next node; the run then rejects with the signal's reason. */
  signal?: AbortSignal;
  /** Gives the arena's unused memory back after the run; for use after a long prefill. Costs a little time. */
  shrinkArena?: boolean;
}

type RunOptionsHandle = Handle<'RunOptions'>;

/** Native run options, made once and used again: a run that was stopped leaves them usable. */
export class RunOptionsPool implements Disposable {
  private readonly api: OrtApi;
  private readonly idle = new Map<string, RunOptionsHandle[]>();

  constructor(api: OrtApi) {
    this.api = api;
  }

  take(shrinkArena: boolean): { handle: RunOptionsHandle; giveBack: () => void } {
    const key = shrinkArena ? 'shrink' : 'plain';
    const list = this.idle.get(key) ?? [];
    this.idle.set(key, list);
    const handle = list.pop() ?? this.create(shrinkArena);
    return { handle, giveBack: () => void list.push(handle) };
  }

  [Symbol.dispose](): void {
    for (const handle of [...this.idle.values()].flat()) this.api.calls.ReleaseRunOptions(handle);
    this.idle.clear();
  }

  private create(shrinkArena: boolean): RunOptionsHandle {
    const handle = outOf<RunOptionsHandle>((out) => this.api.calls.CreateRunOptions(out));
    if (shrinkArena) this.api.calls.AddRunConfigEntry(handle, 'memory.enable_memory_arena_shrinkage', 'cpu:0');
    return handle;
  }
}

/** @internal */
export function runSync(session: Session, binding: IoBinding, { shrinkArena = false }: Omit<RunOptions, 'signal'>): void {
  using use = beginRun(session, binding, shrinkArena);
  session.environment.api.calls.RunWithBinding(session.handle, use.options, binding.handle);
}

/** @internal */
export async function runAsync(session: Session, binding: IoBinding, { signal, shrinkArena = false }: RunOptions): Promise<void> {
  signal?.throwIfAborted();
  using use = beginRun(session, binding, shrinkArena);
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
function beginRun(session: Session, binding: IoBinding, shrinkArena: boolean): Disposable & { options: RunOptionsHandle } {
  session.assertUsable();
  if (binding.session !== session) {
    throw new OrtOptionsError({ what: 'The binding belongs to another session.', fix: "create it with this session's createBinding()." });
  }
  binding.begin();
  session.retain();
  binding.retain();
  const { handle, giveBack } = session.runOptions.take(shrinkArena);
  return {
    options: handle,
    [Symbol.dispose]() {
      giveBack();
      binding.end();
      binding.release();
      session.release();
    },
  };
}
