import { NativeResource } from '@graft/common';
import { type Handle, type OrtApi, ortApi, outOf } from './ort-api.ts';
import { openSession, type RunOptions, type Session } from './session.ts';
import type { SessionOptions } from './session-options.ts';

export interface EnvironmentOptions {
  /** The number of threads in a pool that all sessions without `intraOpThreads` share. Default: no pool. */
  sharedThreads?: number;
}

/** Fatal messages only: failures are thrown as errors, and ONNX Runtime would repeat them on stderr. */
const logLevel = 4;

/** ONNX Runtime keeps one environment in a process and counts its users. */
const current: { handles: number; sharedThreads: boolean } = { handles: 0, sharedThreads: false };

/** ONNX Runtime itself: logging and shared threads. All environments of a process are one to ONNX Runtime, with the options of the first one. */
export class Environment extends NativeResource {
  /** Whether sessions share a pool of threads, as the first living environment of this process decided. */
  readonly sharesThreads: boolean;
  /** @internal */
  readonly api: OrtApi;
  /** @internal */
  readonly handle: Handle<'Env'>;

  private constructor(api: OrtApi, handle: Handle<'Env'>, sharesThreads: boolean) {
    super();
    this.api = api;
    this.handle = handle;
    this.sharesThreads = sharesThreads;
  }

  /** ONNX Runtime's version. */
  get version(): string {
    return this.api.version;
  }

  /**
   * Loads the library at the first call.
   * @throws OrtPlatformError, OrtLibraryError, NativeLibraryError
   */
  static create({ sharedThreads }: EnvironmentOptions = {}): Environment {
    const api = ortApi();
    const handle =
      sharedThreads === undefined
        ? outOf<Handle<'Env'>>((out) => api.calls.CreateEnv(logLevel, 'graft', out))
        : createWithThreads(api, sharedThreads);
    if (current.handles === 0) current.sharedThreads = sharedThreads !== undefined;
    current.handles += 1;
    return new Environment(api, handle, current.sharedThreads);
  }

  /**
   * Loads a model from the bytes of a ModelProto, on another thread. An aborted `signal` stops the load at its next step.
   * @throws OrtCallError; OrtOptionsError; DisposedError; the signal's reason
   */
  createSession(model: Uint8Array, options: SessionOptions & RunOptions): Promise<Session> {
    return openSession(this, model, options);
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
