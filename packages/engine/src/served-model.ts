import type { EngineInfo, ReloadOptions, ReloadReport } from './engine.ts';
import { changesOf, commonFormat } from './engine-info.ts';
import { ReloadBusyError } from './errors.ts';
import type { LoadedModel } from './load-model.ts';
import type { StepContext } from './load-steps.ts';
import { type ReloadModelOptions, reloadModel } from './reload-model.ts';
import { addStats, noStats } from './runner/add-stats.ts';
import type { ModelRunner, RunnerStats } from './runner/model-runner.ts';
import { ModelFiles } from './tokens.ts';

/** The loop of steps, as an exchange of weights needs it. */
export interface StepLoop extends Pick<ReloadModelOptions, 'drain'> {
  /** What waits may start again. */
  resume(): void;
}

/** The model that an engine serves: its runner, what the engine says of it, and the exchange of its weights, one at a time. */
export class ServedModel implements AsyncDisposable {
  private loaded: LoadedModel;
  private served: EngineInfo;
  private readonly context: StepContext;
  /** Of the runners that a reload replaced: what the engine counts never goes back. */
  private replaced = noStats;
  private reloading: { readonly model: string; readonly closed: AbortController; readonly ended: Promise<ReloadReport> } | null = null;

  /** Owns the container. */
  constructor(loaded: LoadedModel, info: EngineInfo, context: StepContext) {
    this.loaded = loaded;
    this.served = info;
    this.context = context;
  }

  get runner(): ModelRunner {
    return this.loaded.runner;
  }

  get info(): EngineInfo {
    return this.served;
  }

  get stats(): RunnerStats {
    return addStats(this.replaced, this.runner.stats);
  }

  /** See `Engine.reloadWeights`. */
  async reload(path: string, { signal, onProgress }: ReloadOptions, loop: StepLoop): Promise<ReloadReport> {
    if (this.reloading !== null) throw new ReloadBusyError(this.reloading.model);
    const closed = new AbortController();
    const signals = AbortSignal.any([closed.signal, ...(signal === undefined ? [] : [signal])]);
    const drain = (): Promise<void> => unlessAborted(loop.drain(), signals);
    const ended = this.exchange(path, { ...this.context, signal: signals, drain, ...(onProgress !== undefined && { onProgress }) });
    this.reloading = { model: path, closed, ended };
    try {
      return await ended;
    } finally {
      this.reloading = null;
      loop.resume();
    }
  }

  /** Ends a reload that is under way with this reason. Nothing may run any more on disposal. */
  abortReload(reason: unknown): void {
    this.reloading?.closed.abort(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reloading?.ended.catch(() => undefined); // whoever asked for it hears of it
    await this.context.container[Symbol.asyncDispose]();
  }

  private async exchange(path: string, options: Omit<ReloadModelOptions, 'checkpoint'>): Promise<ReloadReport> {
    const files = await this.context.container.get(ModelFiles);
    const checkpoint = await files.open(path);
    try {
      const { loaded, weights, hooks, timings } = await reloadModel(this.loaded, { ...options, checkpoint });
      const { runner: old, services } = this.loaded;
      this.loaded = loaded;
      this.served = { ...this.served, weights: commonFormat(loaded.model), changes: changesOf(loaded.hooks), warmUp: loaded.warmUp };
      if (old !== this.runner) {
        this.replaced = addStats(this.replaced, old.stats);
        await services[Symbol.asyncDispose]();
      }
      const { fromCache, bytes, parameters } = weights;
      const { renames } = loaded.hooks.toJSON();
      return { model: path, weights: this.served.weights, parameters, bytes, fromCache, hooks: [...hooks], renames: [...renames], timings };
    } finally {
      checkpoint.close();
    }
  }
}

/** Waits for `promise`, at most until the signal. @throws the signal's reason. */
async function unlessAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
