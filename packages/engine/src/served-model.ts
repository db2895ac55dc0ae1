import type { EngineInfo, ReloadOptions, ReloadReport } from './engine.ts';
import { changesOf, commonFormat } from './engine-info.ts';
import { ReloadBusyError } from './errors.ts';
import type { LoadedModel } from './load-model.ts';
import type { StepContext } from './load-steps.ts';
import { type ReloadModelOptions, reloadModel } from './reload-model.ts';
import type { ModelRunner, RunnerStats } from './runner/model-runner.ts';
import { latest } from './runner/recompiles.ts';
import { ModelFiles } from './tokens.ts';
import { unlessAborted } from './unless-aborted.ts';

/** The step loop as a reload sees it. */
export interface StepLoop extends Pick<ReloadModelOptions, 'drain'> {
  /** Waiting sequences may start again. */
  resume(): void;
}

/** The served model: its runner, its description, and one exchange of its weights at a time. */
export class ServedModel implements AsyncDisposable {
  private loaded: LoadedModel;
  private served: EngineInfo;
  private readonly context: StepContext;
  /** Counts of replaced runners, so that the engine's counts never go down. */
  private replaced: RunnerStats | null = null;
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

  /** Aborts a running reload. */
  abortReload(reason: unknown): void {
    this.reloading?.closed.abort(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.reloading?.ended.catch(() => undefined); // its caller gets the error
    await this.context.container[Symbol.asyncDispose]();
  }

  private async exchange(path: string, options: Omit<ReloadModelOptions, 'checkpoint'>): Promise<ReloadReport> {
    const files = await this.context.container.get(ModelFiles);
    using checkpoint = await files.open(path);
    const { loaded, weights, hooks, timings } = await reloadModel(this.loaded, { ...options, checkpoint });
    const { runner: old, services } = this.loaded;
    this.loaded = loaded;
    this.served = { ...this.served, weights: commonFormat(loaded.model), changes: changesOf(loaded.hooks), warmUp: loaded.warmUp };
    if (old !== this.runner) {
      this.replaced = addStats(this.replaced, old.stats);
      await services[Symbol.asyncDispose]();
    }
    const { seconds: _, ...report } = weights;
    const { renames } = loaded.hooks.toJSON();
    return { model: path, weights: this.served.weights, ...report, hooks: [...hooks], renames: [...renames], timings };
  }
}

/** The counts of two runners in succession; the warm-up is the later one's. */
export function addStats(before: RunnerStats | null, now: RunnerStats): RunnerStats {
  if (before === null) return now;
  const { recentRecompiles, warmUpSeconds, ...counts } = now;
  const sums = Object.entries(counts).map(([key, count]) => [key, count + before[key as keyof typeof counts]]);
  return {
    ...(Object.fromEntries(sums) as typeof counts),
    recentRecompiles: latest(before.recentRecompiles, recentRecompiles),
    warmUpSeconds,
  };
}
