import { type Checkpoint, type LoadReport, stageWeights } from '@graft/core-model';
import type { HookRecord, HookReload } from '@graft/registry';
import { ReloadConfigError } from './errors.ts';
import { type LoadedModel, type ModelReading, prepareRunner } from './load-model.ts';
import { type StepContext, stepper, weightOptions } from './load-steps.ts';
import type { ModelRunner } from './runner/model-runner.ts';

export interface ReloadModelOptions extends StepContext {
  checkpoint: Checkpoint;
  /** Ends when no sequence runs any more and none starts: the step boundary at which the weights are exchanged. */
  drain(): Promise<void>;
}

export interface ReloadedModel {
  /** Serves from now on; the old runner, where it is another one, is the caller's to dispose. */
  readonly loaded: LoadedModel;
  readonly weights: LoadReport;
  readonly hooks: readonly HookRecord[];
  /** Seconds of each step. */
  readonly timings: Record<string, number>;
}

/**
 * Gives a model that serves other weights. The whole checkpoint is read, checked and converted first. Then a runner that can take
 * other weights gets them between two steps, in the memory of the old ones; in place of any other a second one is prepared while the old one serves, with
 * caches of its own, and takes over between two steps. All or nothing: an error or an abort leaves the old weights serving.
 */
export async function reloadModel(loaded: LoadedModel, options: ReloadModelOptions): Promise<ReloadedModel> {
  const { model, hooks, context, tower, runner } = loaded;
  const { checkpoint, drain, signal } = options;
  const step = stepper(options);
  const reading = await loaded.read(checkpoint);
  requireSameConfig(loaded, reading, checkpoint.path);

  const staged = await step('load', 'staging weights', async (report) =>
    stageWeights(hooks.parametersAtLoad(model), checkpoint, { ...(await weightOptions(options, report)), rules: reading.rules }),
  ); // the model is as it was until they are applied
  using reload = await step('postLoad', 'post-load hooks', () => hooks.reload(model, context, () => staged.apply())); // back to the old weights unless kept

  const inPlace = runner.acceptsWeights?.() === true;
  const next = inPlace ? loaded : await prepareRunner({ ...options, model, context, tower }, step);
  try {
    await step('drain', 'running sequences end', drain);
    signal?.throwIfAborted();
    if (inPlace) await updateOrRestore(runner, reload);
  } catch (error) {
    if (!inPlace) await next.services[Symbol.asyncDispose]();
    throw error;
  }
  reload.keep(); // from here nothing can fail
  const { runner: serving, services, warmUp } = next;
  return { loaded: { ...loaded, runner: serving, services, warmUp }, weights: staged.report, hooks: reload.hooks, timings: step.timings };
}

/** Weights are copied one after the other, then tried: when one cannot be, or the runner refuses them, the old ones are put back. */
async function updateOrRestore(runner: ModelRunner, reload: HookReload): Promise<void> {
  try {
    await runner.updateWeights!();
  } catch (error) {
    reload[Symbol.dispose](); // the model has its old weights again
    await runner.updateWeights!();
    throw error;
  }
}

/** Another shape is another model, which a reload of weights cannot make of this one. */
function requireSameConfig(loaded: ModelReading, reading: ModelReading, path: string): void {
  const [served, other]: Record<string, unknown>[] = [loaded, reading].map(({ architectures, config }) => ({ architectures, ...config }));
  const differing = Object.keys(served!).flatMap((key) => {
    const [was, is] = [served![key], other![key]].map((value) => JSON.stringify(value));
    return was === is ? [] : [{ key, was: shortened(was!), is: shortened(is!) }];
  });
  if (differing.length > 0) throw new ReloadConfigError(path, differing);
}

function shortened(text: string): string {
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}
