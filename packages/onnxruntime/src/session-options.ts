import type { Environment } from './environment.ts';
import { OrtOptionsError } from './errors.ts';
import { type Handle, outOf } from './ort-api.ts';
import type { Value } from './value.ts';

const optimizationLevels = { off: 0, basic: 1, extended: 2, all: 99 } as const;

export interface SessionOptions {
  /** Threads that work on one node, the calling one included. May be left out where the environment shares its threads. */
  intraOpThreads?: number;
  /** How long an idle thread spins before it sleeps, in microseconds. Default 100; 0 never spins, for machines with other work. */
  spinDurationUs?: number;
  /** Default `all`. */
  graphOptimization?: keyof typeof optimizationLevels;
  /** Writes the optimised model there while loading. */
  optimizedModelPath?: string;
  /** Turns profiling on; the file's name begins with this. A few hundred runs at most: long profiled runs have crashed. */
  profilePath?: string;
  /** ONNX Runtime's session configuration entries, as they are. */
  configEntries?: Readonly<Record<string, string>>;
  /**
   * Weights over memory of ours in place of the model's initializers of the same names, types and dims. The session keeps the
   * values and their memory alive. Declare such an initializer external (`GraphBuilder.externalInitializer`).
   */
  initializers?: ReadonlyMap<string, Value>;
}

/** A configured options object, which the caller releases. @internal */
export function createOptions(environment: Environment, options: SessionOptions): Handle<'SessionOptions'> {
  const { api } = environment;
  const handle = outOf<Handle<'SessionOptions'>>((out) => api.calls.CreateSessionOptions(out));
  try {
    setThreads(environment, handle, options);
    api.calls.DisableMemPattern(handle); // a plan of memory by the first run's shapes only costs memory where shapes change
    api.calls.SetSessionGraphOptimizationLevel(handle, optimizationLevels[options.graphOptimization ?? 'all']);
    if (options.optimizedModelPath !== undefined) api.calls.SetOptimizedModelFilePath(handle, options.optimizedModelPath);
    if (options.profilePath !== undefined) api.calls.EnableProfiling(handle, options.profilePath);
    for (const [key, value] of configEntries(options)) api.calls.AddSessionConfigEntry(handle, key, value);
    for (const [name, value] of options.initializers ?? []) {
      value.assertUsable();
      api.calls.AddInitializer(handle, name, value.handle);
    }
    return handle;
  } catch (error) {
    api.calls.ReleaseSessionOptions(handle);
    throw error;
  }
}

function setThreads(environment: Environment, handle: Handle<'SessionOptions'>, options: SessionOptions): void {
  const { calls } = environment.api;
  if (options.intraOpThreads === undefined) {
    if (!environment.sharesThreads) {
      throw new OrtOptionsError({
        what: 'A session needs intraOpThreads, because its environment shares no threads.',
        fix: 'give the number of free cores, or create the environment with sharedThreads.',
      });
    }
    calls.DisablePerSessionThreads(handle);
  } else {
    calls.SetIntraOpNumThreads(handle, options.intraOpThreads);
  }
}

function configEntries(options: SessionOptions): [key: string, value: string][] {
  const spin = options.spinDurationUs ?? 100;
  const entries: [string, string][] =
    spin > 0 ? [['session.intra_op.spin_duration_us', String(spin)]] : [['session.intra_op.allow_spinning', '0']];
  return [...entries, ...Object.entries(options.configEntries ?? {})];
}
