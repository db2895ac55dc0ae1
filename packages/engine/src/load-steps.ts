import type { EventBus } from '@graft/common';
import { float32Policy, type LoadWeights } from '@graft/core-model';
import { isStorageFormat, storageFormats } from '@graft/graph';
import type { SelectedPlatform, ServiceContainer } from '@graft/registry';
import { callPlugin, nameOfService, ServiceCallError } from './call-plugin.ts';
import type { EngineConfig } from './config.ts';
import type { EngineEvents, LoadProgress } from './engine.ts';
import { WeightPolicy } from './tokens.ts';

/** What a load and a reload need of the engine. */
export interface StepContext {
  container: ServiceContainer;
  platform: SelectedPlatform;
  config: EngineConfig;
  onProgress?: (progress: LoadProgress) => void;
  events?: EventBus<EngineEvents>;
  signal?: AbortSignal;
}

/** A step's own progress; `fraction` from 0 to 1. */
export type Report = (fraction: number, message: string) => void;

/** The reported name of each step of the path. */
const reported = {
  resolve: 'resolve',
  construct: 'construct',
  init: 'construct',
  load: 'load',
  postLoad: 'load',
  open: 'open',
  capture: 'capture',
  compile: 'compile',
  warmUp: 'warm-up',
  drain: 'drain',
} as const;

export type StepRunner = <T>(name: keyof typeof reported, message: string, body: (report: Report) => T | Promise<T>) => Promise<T>;

/** Runs the steps of the path: reports each, records its seconds in `timings`, and stops between two steps if the signal is aborted. */
export function stepper({ onProgress, signal }: Pick<StepContext, 'onProgress' | 'signal'>) {
  const timings: Record<string, number> = {};
  const run: StepRunner = async (name, message, body) => {
    signal?.throwIfAborted();
    const start = performance.now();
    const report: Report = (fraction, detail) => onProgress?.({ step: reported[name], message: detail, fraction });
    onProgress?.({ step: reported[name], message, fraction: null });
    const result = await body(report);
    timings[name] = (performance.now() - start) / 1000;
    return result;
  };
  return Object.assign(run, { timings });
}

/** The options for loading weights: the platform's formats, kept in the cache folder. */
export async function weightOptions(
  { container, config, signal, events }: StepContext,
  onProgress: Report,
): Promise<Omit<LoadWeights, 'rules'>> {
  const bound = await container.get(WeightPolicy); // a wrong one is an error, also where it is not used
  const asked = config.weights === 'float32' ? float32Policy : bound;
  const policy: LoadWeights['policy'] = (parameter) => {
    const fail = (what: string, cause?: unknown) =>
      new ServiceCallError(`WeightPolicy() for "${parameter.name}"`, nameOfService(asked), what, cause);
    const format = callPlugin(() => asked(parameter), fail);
    if (!isStorageFormat(format)) throw fail(`gave ${format}; expected ${storageFormats.join(', ')}`);
    return format;
  };
  const onWarning = (message: string): void => events?.emit('load:warning', { message });
  if (asked.mapsCheckpoint === true) Object.assign(policy, { mapsCheckpoint: true });
  return { policy, cacheDirectory: config.cacheDirectory ?? null, onProgress, onWarning, ...(signal !== undefined && { signal }) };
}
