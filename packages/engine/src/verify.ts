import { GraftError, type GraftErrorRecord } from '@graft/common';
import { InterpreterBackend } from '@graft/graph';
import { type PatchGroup, ServiceContainer } from '@graft/registry';
import { createServices, engineServices } from './default-services.ts';
import type { EngineInfo, LoadProgress } from './engine.ts';
import { EngineConfigError } from './errors.ts';
import { type GraphKind, graphKinds } from './graph-kinds.ts';
import { LlmEngine } from './llm-engine.ts';
import { type BuildOptions, buildModel } from './load-model.ts';
import type { StartOptions } from './start-engine.ts';
import { Backend, CheckpointFormats, ModelFiles, Tokenizers } from './tokens.ts';
import { compareRuns, type RunComparison } from './verify/compare-runs.ts';
import { type Parameters, problemsOf } from './verify/problems.ts';
import { type RecordedRun, recordRun } from './verify/record-run.ts';
import { findSubject, type Subject, type VerifySubject } from './verify/subject.ts';
import { verifyText } from './verify/verify-text.ts';
import { errorRecord } from './worker/protocol.ts';

export interface VerifyOptions extends VerifySubject {
  /**
   * The largest accepted difference, relative to the token's largest value in the same place, or to 1 if that is larger. Default: 1e-4, more than the
   * rounding of sums in another order.
   */
  tolerance?: number;
  /** Text for the model's tokenizer, or token ids. Default: 20 ids, with one image among them if the model reads images. */
  prompt?: string | readonly number[];
  /** Tokens after the prompt, one step each. Default: 16. */
  maxTokens?: number;
}

/** One of the two models, and its run. */
export interface VerifiedModel {
  readonly modelClass: string | null;
  /** The kinds of its layers after the init hooks. Each kind is one graph at every shape. */
  readonly kinds: readonly GraphKind[];
  /** Graphs captured and compiled in the run. */
  readonly captures: number;
  readonly compiles: number;
  /** The patches in effect. Patches that differ only in their layer are one group. */
  readonly patches: readonly PatchGroup[];
  /** The greedy token at each position of the answer, given upstream's answer up to there. */
  readonly tokenIds: readonly number[];
  /** For building, loading, capturing, compiling and running. */
  readonly seconds: number;
  /** The step that failed, and its error. */
  readonly failure: { readonly step: string; readonly error: GraftErrorRecord } | null;
}

/** `verify --json`. */
export interface VerifyRecord extends Omit<RunComparison, 'isEqual'> {
  /** `failed`: one of the two models failed, so nothing is compared. `unproven`: the numbers are equal, but `problems` is not empty. */
  readonly verdict: 'equal' | 'unproven' | 'differs' | 'failed';
  /** Faults that equal numbers do not show: parameters that differ, and patches, hooks and overrides without effect. */
  readonly problems: readonly string[];
  readonly architecture: string;
  readonly platform: string;
  readonly mode: string;
  /** Where both ran, and why. */
  readonly device: string;
  /** A path, or the seed and the config of random weights. */
  readonly weights: string;
  readonly tolerance: number;
  readonly promptIds: readonly number[];
  readonly upstream: VerifiedModel;
  readonly override: VerifiedModel;
}

/**
 * Compares an override with its upstream. Both are loaded one after the other, with the same weights in float32, on the same platform, and run the same
 * tokens: the prompt, then upstream's greedy answer. The residual stream after every layer, the logits and each model's own greedy tokens are compared.
 * If a model fails, the record contains the step and the error.
 * @throws NothingToVerifyError if no override serves; EngineConfigError, and the errors of plugins, platform, config and tokenizer.
 */
export async function verify(asked: VerifyOptions, options: StartOptions = {}): Promise<{ text: string; record: VerifyRecord }> {
  const { tolerance = 1e-4, prompt, maxTokens = 16 } = asked;
  const subject = await findSubject(asked, options, prompt, maxTokens);
  const run = { subject, maxTokens, options };
  const upstream = await runModel('upstream', { ...run, answer: null });
  const override = await runModel('override', { ...run, answer: upstream.run?.greedy ?? null });
  const parameters = upstream.parameters && override.parameters && { upstream: upstream.parameters, override: override.parameters };
  const problems = problemsOf(parameters, override.info);
  const { isEqual, ...compared } = compareRuns(upstream.run, override.run, tolerance, subject.prompt.image);
  const equal = problems.length === 0 ? 'equal' : 'unproven';
  const record: VerifyRecord = {
    ...compared,
    verdict: isEqual === null ? 'failed' : isEqual ? equal : 'differs',
    problems,
    architecture: subject.architecture,
    platform: subject.platform.platform.name,
    mode: subject.mode,
    device: subject.device,
    weights: subject.weights,
    tolerance,
    promptIds: subject.prompt.ids,
    upstream: upstream.model,
    override: override.model,
  };
  return { text: verifyText(record), record };
}

interface RunOptions {
  subject: Subject;
  maxTokens: number;
  answer: readonly number[] | null;
  options: StartOptions;
}

/** Each is null if the model failed earlier. */
interface ModelRun {
  run: RecordedRun | null;
  parameters: Parameters | null;
  info: EngineInfo | null;
}

/** Runs one of the two models, from its class to its last token. It is disposed before the other one starts. */
async function runModel(
  which: 'upstream' | 'override',
  { subject, maxTokens, answer, options }: RunOptions,
): Promise<ModelRun & { model: VerifiedModel }> {
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  const { plugins, platform, config, source, prompt } = subject;
  const building: BuildOptions = { plugins, platform, config, ...(which === 'upstream' && { without: 'overrides' }) };
  const started = performance.now();
  let step = 'resolve';
  const onProgress = (progress: LoadProgress): void => {
    step = progress.step;
    options.onProgress?.({ ...progress, message: `${which}: ${progress.message}` });
  };
  let model: VerifiedModel = {
    modelClass: null,
    kinds: [],
    captures: 0,
    compiles: 0,
    patches: [],
    tokenIds: [],
    seconds: 0,
    failure: null,
  };
  const result: ModelRun = { run: null, parameters: null, info: null };
  try {
    step = 'construct';
    const built = (await buildModel(building, source)).model;
    result.parameters = new Map([...built.namedParameters()].map(([name, { shape }]) => [name, shape]));
    step = 'capture';
    model = { ...model, modelClass: built.constructor.name, kinds: graphKinds(built) };
    const engine = await loadEngine(subject, { ...building, onProgress, ...signal });
    try {
      step = 'run';
      result.info = engine.info;
      model = { ...model, modelClass: engine.info.modelClass, patches: engine.info.changes.patches };
      result.run = await recordRun(engine, { prompt, maxTokens, answer, ...signal });
      const { captures, compiles } = await engine.stats();
      model = { ...model, captures, compiles, tokenIds: result.run.greedy };
    } finally {
      await engine.close();
    }
  } catch (error) {
    options.signal?.throwIfAborted();
    const isRequest = error instanceof EngineConfigError || (GraftError.is(error) && error.code === 'GRAFT_WITHOUT_UNKNOWN');
    if (isRequest) throw error; // the request is wrong, not the model
    result.run = null;
    model = { ...model, failure: { step, error: errorRecord(error) } };
  }
  return { ...result, model: { ...model, seconds: (performance.now() - started) / 1000 } };
}

async function loadEngine(subject: Subject, options: BuildOptions & Pick<StartOptions, 'onProgress' | 'signal'>): Promise<LlmEngine> {
  const { platform, config, fill } = subject;
  const container = containerOf(subject);
  using checkpoint = await subject.open(await container.get(ModelFiles));
  return await LlmEngine.load({ ...options, platform, config, container, checkpoint, ...(fill !== null && { fillWeights: fill }) });
}

/** The platform's services, or the interpreter if nothing of the platform runs here. */
function containerOf({ plugins, platform, config, onInterpreter }: Subject): ServiceContainer {
  if (!onInterpreter) return createServices(plugins, platform, config);
  const bound = plugins.bindings({ ...config, platform: platform.platform.name });
  const formats = bound.filter(({ token }) => token === CheckpointFormats || token === Tokenizers);
  const container = new ServiceContainer([...engineServices, ...formats]);
  container.bind(Backend).toConstantValue(new InterpreterBackend());
  return container;
}
