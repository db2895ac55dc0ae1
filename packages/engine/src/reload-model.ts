import { Disposables } from '@graft/common';
import { type Checkpoint, type Llama4TextConfig, type LoadReport, parseLlama4Config, stageWeights } from '@graft/core-model';
import { CaptureCache } from '@graft/graph';
import type { ReloadedHook } from '@graft/registry';
import { ReloadConfigError } from './errors.ts';
import type { LoadedModel } from './load-model.ts';
import { compileProgram, type StepContext, stepper, weightOptions } from './load-steps.ts';
import { captureLanguageModel } from './runner/capture-language-model.ts';

export interface ReloadModel extends StepContext {
  checkpoint: Checkpoint;
  /** Ends when no sequence runs any more and none starts: the step boundary at which the weights are exchanged. */
  drain(): Promise<void>;
}

export interface ReloadedModel {
  /** Serves from now on; the old program is the caller's to dispose. */
  readonly loaded: LoadedModel;
  readonly weights: LoadReport;
  readonly hooks: readonly ReloadedHook[];
  /** Seconds of each step. */
  readonly timings: Record<string, number>;
}

/**
 * Gives a model that serves other weights. The whole checkpoint is read, checked and converted first; then a second program is compiled while the old
 * one serves, and takes its place between two steps, with caches of its own. All or nothing: an error or an abort leaves the old weights serving.
 */
export async function reloadModel(loaded: LoadedModel, options: ReloadModel): Promise<ReloadedModel> {
  const { model, hooks, context, kvCache } = loaded;
  const { checkpoint, drain, signal } = options;
  const step = stepper(options);
  requireSameConfig(loaded.config, checkpoint, options);

  const staged = await step('load', 'staging weights', async (report) =>
    stageWeights(hooks.parametersAtLoad(model), checkpoint, await weightOptions(options, report)),
  ); // the model is as it was until they are applied
  using reload = await step('postLoad', 'post-load hooks', () => hooks.reload(model, context, () => staged.apply())); // back to the old weights unless kept

  const captured = await step('capture', 'capturing forward', () => captureLanguageModel(model, new CaptureCache()));
  using unfinished = new Disposables();
  const program = unfinished.use(await step('compile', 'compiling', (report) => compileProgram(captured, kvCache, options, report)));
  await step('drain', 'running sequences end', drain);
  signal?.throwIfAborted();
  reload.keep(); // from here nothing can fail
  unfinished.move();
  return { loaded: { ...loaded, captured, program }, weights: staged.report, hooks: reload.hooks, timings: step.timings };
}

/** Another shape is another model, which a reload of weights cannot make of this one. */
function requireSameConfig(served: Llama4TextConfig, { config: raw, path }: Checkpoint, { config }: StepContext): void {
  const other = parseLlama4Config(raw, { where: path, overrides: config.configOverrides });
  const differing = (Object.keys(served) as (keyof Llama4TextConfig)[]).flatMap((key) => {
    const [was, is] = [served[key], other[key]].map((value) => JSON.stringify(value));
    return was === is ? [] : [{ key, was: shortened(was!), is: shortened(is!) }];
  });
  if (differing.length > 0) throw new ReloadConfigError(path, differing);
}

function shortened(text: string): string {
  return text.length <= 80 ? text : `${text.slice(0, 77)}...`;
}
