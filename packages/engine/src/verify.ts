import type { GraftErrorRecord } from '@graft/common';
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
   * The largest difference that is let through, of the largest value that the same token has there (of 1 where that is less). Default: 1e-4, more than
   * sums lose by another order.
   */
  tolerance?: number;
  /** Text for the model's tokenizer, or token ids. Default: 20 ids, and one image among them for a model that reads images. */
  prompt?: string | readonly number[];
  /** Tokens after the prompt, each a step of its own. Default: 16. */
  maxTokens?: number;
}

/** What one of the two models was, and did. */
export interface VerifiedModel {
  readonly modelClass: string | null;
  /** The kinds of its layers, each a graph at every shape; after the init hooks. */
  readonly kinds: readonly GraphKind[];
  /** Graphs captured and compiled in the run itself. */
  readonly captures: number;
  readonly compiles: number;
  /** What the hooks changed and did not undo, like ones together. */
  readonly patches: readonly PatchGroup[];
  /** The greedy token after each position; with the answer of upstream before it. */
  readonly tokenIds: readonly number[];
  /** Of the whole: building, loading, capturing, compiling, running. */
  readonly seconds: number;
  /** Where it failed, and by what. */
  readonly failure: { readonly step: string; readonly error: GraftErrorRecord } | null;
}

/** `verify --json`. */
export interface VerifyRecord extends Omit<RunComparison, 'isEqual'> {
  /** `failed`: at least one of the two did not come to its end; then nothing is compared. `unproven`: the numbers are equal, and there are problems. */
  readonly verdict: 'equal' | 'unproven' | 'differs' | 'failed';
  /** What equal numbers do not show: parameters that differ, and patches, hooks and overrides without effect. */
  readonly problems: readonly string[];
  readonly architecture: string;
  readonly platform: string;
  readonly mode: string;
  /** Where both ran, and why. */
  readonly device: string;
  /** A path, or what random weights are of. */
  readonly weights: string;
  readonly tolerance: number;
  readonly promptIds: readonly number[];
  readonly upstream: VerifiedModel;
  readonly override: VerifiedModel;
}

/**
 * Holds an override against its upstream: both are loaded with the same weights in float32, on the same platform, one after the other, and run the same
 * tokens: the prompt, then upstream's greedy answer. Compared are the residual stream after every layer, the logits, and each model's own greedy token.
 * A model that fails is in the record, with the step and the error.
 * @throws NothingToVerifyError where no override serves; EngineConfigError, and what finding plugins, platform, config and tokenizer ends in.
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

/** Each is null if the model failed before. */
interface ModelRun {
  run: RecordedRun | null;
  parameters: Parameters | null;
  info: EngineInfo | null;
}

/** One of the two, from its class to its last token; it is gone from memory when the other one's turn comes. */
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
    step = 'capture';
    model = { ...model, modelClass: built.constructor.name, kinds: graphKinds(built) };
    result.parameters = new Map([...built.namedParameters()].map(([name, { shape }]) => [name, shape]));
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
    if (error instanceof EngineConfigError) throw error; // the request is wrong, not the model
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

/** The platform's services, or the interpreter where it has none that run here. */
function containerOf({ plugins, platform, config, onInterpreter }: Subject): ServiceContainer {
  if (!onInterpreter) return createServices(plugins, platform, config);
  const bound = plugins.bindings({ ...config, platform: platform.platform.name });
  const formats = bound.filter(({ token }) => token === CheckpointFormats || token === Tokenizers);
  const container = new ServiceContainer([...engineServices, ...formats]);
  container.bind(Backend).toConstantValue(new InterpreterBackend());
  return container;
}
