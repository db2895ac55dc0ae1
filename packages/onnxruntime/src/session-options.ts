import type { Environment } from './environment.ts';
import { OrtOptionsError } from './errors.ts';
import { type Handle, outOf } from './ort-api.ts';
import type { OrtValue } from './ort-value.ts';

const optimizationLevels = { off: 0, basic: 1, extended: 2, all: 99 } as const;

export interface SessionOptions {
  /** Threads that compute one node, including the calling thread. Optional when the environment shares its threads. */
  intraOpThreads?: number | undefined;
  /** How long an idle thread spins before it sleeps, in microseconds. Default 100. Use 0 on machines with other work. */
  spinDurationUs?: number | undefined;
  /** Default `all`. */
  graphOptimization?: keyof typeof optimizationLevels | undefined;
  /** Path to which the load writes the optimised model. */
  optimizedModelPath?: string | undefined;
  /** Turns profiling on. The profile's path begins with this. Profile a few hundred runs at most: longer ones have crashed. */
  profilePath?: string | undefined;
  /** ONNX Runtime's session configuration entries, passed on unchanged. */
  configEntries?: Readonly<Record<string, string>> | undefined;
  /**
   * Values that replace the model's initializers of the same names, types and dims. The session keeps the values and their memory
   * alive. Declare such an initializer with `GraphBuilder.externalInitializer`.
   */
  initializers?: ReadonlyMap<string, OrtValue> | undefined;
}

/** A configured options object, which the caller releases. @internal */
export function createOptions(environment: Environment, options: SessionOptions): Handle<'SessionOptions'> {
  const { calls } = environment.api;
  const { intraOpThreads, spinDurationUs = 100, graphOptimization = 'all', optimizedModelPath, profilePath, initializers = [] } = options;
  if (intraOpThreads === undefined && !environment.sharesThreads) {
    throw new OrtOptionsError({
      what: 'The session has no threads: intraOpThreads is not set, and its environment shares none.',
      fix: 'set intraOpThreads to the number of free cores, or create the environment with sharedThreads.',
    });
  }
  const handle = outOf<Handle<'SessionOptions'>>((out) => calls.CreateSessionOptions(out));
  try {
    if (intraOpThreads === undefined) calls.DisablePerSessionThreads(handle);
    else calls.SetIntraOpNumThreads(handle, intraOpThreads);
    calls.DisableMemPattern(handle); // a memory plan for the first run's shapes wastes memory when shapes change
    calls.SetSessionGraphOptimizationLevel(handle, optimizationLevels[graphOptimization]);
    if (optimizedModelPath !== undefined) calls.SetOptimizedModelFilePath(handle, optimizedModelPath);
    if (profilePath !== undefined) calls.EnableProfiling(handle, profilePath);
    const [key, value] = spinDurationUs > 0 ? ['spin_duration_us', String(spinDurationUs)] : ['allow_spinning', '0'];
    const entries = { [`session.intra_op.${key}`]: value, ...options.configEntries };
    for (const [name, entry] of Object.entries(entries)) calls.AddSessionConfigEntry(handle, name, entry);
    for (const [name, initializer] of initializers) {
      initializer.assertUsable();
      calls.AddInitializer(handle, name, initializer.handle);
    }
    return handle;
  } catch (error) {
    calls.ReleaseSessionOptions(handle);
    throw error;
  }
}
