import { type Handle, type OrtApi, ortApi, outOf } from './ort-api.ts';
import { NativeResource } from './resource.ts';
import { openSession, openSessionAsync, type Session } from './session.ts';
import type { SessionOptions } from './session-options.ts';

export interface EnvironmentOptions {
  /** A pool that all sessions without `intraOpThreads` share. Without it every session has threads of its own. */
  sharedThreads?: number;
}

/** Fatal alone: failures come as errors, which ONNX Runtime's own lines on stderr would only repeat. */
const logLevel = 4;

/** ONNX Runtime has one environment in a process; this counts who uses it. */
const current: { handles: number; sharedThreads: boolean } = { handles: 0, sharedThreads: false };

/**
 * ONNX Runtime itself: logging and shared threads. ONNX Runtime keeps one in a process and counts its users, so that several of
 * these are cheap and independent; only the first one's options count.
 */
export class Environment extends NativeResource {
  readonly version: string;
  /** Whether there is a shared pool: whether the first environment of those that live asked for one. */
  readonly sharesThreads: boolean;
  /** @internal */
  readonly api: OrtApi;
  /** @internal */
  readonly handle: Handle<'Env'>;

  private constructor(api: OrtApi, handle: Handle<'Env'>, sharesThreads: boolean) {
    super();
    this.api = api;
    this.handle = handle;
    this.version = api.version;
    this.sharesThreads = sharesThreads;
  }

  /**
   * Loads the library at the first call.
   * @throws OrtPlatformError, OrtLibraryError
   */
  static create({ sharedThreads }: EnvironmentOptions = {}): Environment {
    const api = ortApi();
    const shares = sharedThreads !== undefined;
    const handle = shares
      ? createWithThreads(api, sharedThreads)
      : outOf<Handle<'Env'>>((out) => api.calls.CreateEnv(logLevel, 'graft', out));
    if (current.handles === 0) current.sharedThreads = shares;
    current.handles += 1;
    return new Environment(api, handle, current.sharedThreads);
  }

  /**
   * Loads a model from the bytes of a ModelProto.
   * Blocks the event loop; see `createSessionAsync`.
   * @throws OrtCallError with ONNX Runtime's words; OrtOptionsError; DisposedError
   */
  createSession(model: Uint8Array, options: SessionOptions): Session {
    return openSession(this, model, options);
  }

  /** `createSession` on another thread. An aborted `signal` stops it at the next step of the load; the promise then rejects with the signal's reason. */
  createSessionAsync(model: Uint8Array, options: SessionOptions & { signal?: AbortSignal }): Promise<Session> {
    return openSessionAsync(this, model, options);
  }

  protected override describe(): string {
    return 'The ONNX Runtime environment';
  }

  protected override free(): void {
    current.handles -= 1;
    this.api.calls.ReleaseEnv(this.handle);
  }
}

function createWithThreads(api: OrtApi, threads: number): Handle<'Env'> {
  const options = outOf<Handle<'ThreadingOptions'>>((out) => api.calls.CreateThreadingOptions(out));
  try {
    api.calls.SetGlobalIntraOpNumThreads(options, threads);
    api.calls.SetGlobalInterOpNumThreads(options, 1);
    api.calls.SetGlobalSpinControl(options, 0);
    return outOf<Handle<'Env'>>((out) => api.calls.CreateEnvWithGlobalThreadPools(logLevel, 'graft', options, out));
  } finally {
    api.calls.ReleaseThreadingOptions(options);
  }
}
