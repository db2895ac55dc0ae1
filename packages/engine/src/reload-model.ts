import { type Checkpoint, type LoadReport, stageWeights } from '@graft/core-model';
import type { HookRecord, HookReload } from '@graft/registry';
import { ReloadConfigError } from './errors.ts';
import { type LoadedModel, type ModelReading, prepareRunner } from './load-model.ts';
import { type StepContext, stepper, weightOptions } from './load-steps.ts';
import type { ModelRunner } from './runner/model-runner.ts';

export interface ReloadModelOptions extends StepContext {
  checkpoint: Checkpoint;
  /** Resolves at a step boundary at which no sequence runs and none starts. The weights are exchanged there. */
  drain(): Promise<void>;
}

export interface ReloadedModel {
  /** Serves from now on. If its runner is new, the caller disposes the old one. */
  readonly loaded: LoadedModel;
  readonly weights: LoadReport;
  readonly hooks: readonly HookRecord[];
  /** Seconds of each step. */
  readonly timings: Record<string, number>;
}

/**
 * Gives a served model other weights. First the whole checkpoint is read, checked and converted. A runner that can take weights in place then gets them
 * between two steps, in the memory of the old ones. Otherwise a second runner with its own caches is prepared while the old one serves, and takes over
 * between two steps. All or nothing: after an error or an abort the old weights keep serving.
 */
export async function reloadModel(loaded: LoadedModel, options: ReloadModelOptions): Promise<ReloadedModel> {
  const { model, hooks, context, tower, runner } = loaded;
  const { checkpoint, drain, signal } = options;
  const step = stepper(options);
  const reading = await loaded.read(checkpoint);
  requireSameConfig(loaded, reading, checkpoint.path);

  const staged = await step('load', 'staging weights', async (report) =>
    stageWeights(hooks.parametersAtLoad(model), checkpoint, { ...(await weightOptions(options, report)), rules: reading.rules }),
  ); // the model does not change until they are applied
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

/** Copies the weights one after the other, then tries them. If a copy fails or the runner refuses them, the old weights are restored. */
async function updateOrRestore(runner: ModelRunner, reload: HookReload): Promise<void> {
  try {
    await runner.updateWeights!();
  } catch (error) {
    reload[Symbol.dispose](); // the model has its old weights again
    await runner.updateWeights!();
    throw error;
  }
}

/** A reload changes weights only: another config is another model. */
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
