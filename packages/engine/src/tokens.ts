import type * as coreModel from '@graft/core-model';
import * as graph from '@graft/graph';
import { listToken, token } from '@graft/registry';
import type * as choice from './backend-choice.ts';
import type { LogitsProcessor } from './logits-processors.ts';
import type * as files from './model-files.ts';
import type * as buckets from './runner/buckets.ts';
import * as runner from './runner/model-runner.ts';
import type * as scheduler from './scheduler-policy.ts';
import type { TokenizerFormat } from './text/model-text.ts';

export type Backend = graph.Backend;
/** Compiles and runs models on a platform. Default: one of `Backends`. A platform's plugin binds either. */
export const Backend = token<Backend>('Backend', 'engine', ['compile'], graph.backendContract);

/** The backends of a platform that has several: each is tried with a model, and the fastest one serves. The first one serves where nothing is measured. */
export const Backends = listToken<choice.BackendCandidate>('Backends', 'engine', ['version', 'load']);

export type BackendChoice = choice.BackendChoice;
/** Which of `Backends` serves. The engine binds it. */
export const BackendChoice = token<BackendChoice>('BackendChoice');

export type StaticBackend = graph.StaticBackend;
/** The device of a `BucketedModelRunner`, which compiles for static shapes. */
export const StaticBackend = token<StaticBackend>('StaticBackend', 'engine', ['open']);

export type BucketPolicy = buckets.BucketPolicy;
/** The static shapes of a `BucketedModelRunner`. */
export const BucketPolicy = token<BucketPolicy>('BucketPolicy', 'model');

export type ModelRunner = runner.ModelRunner;
/** Runs a model's steps. Default: `AnyShapeRunner`, over the platform's `Backend`. */
export const ModelRunner = token<ModelRunner>('ModelRunner', 'model', ['capture', 'compile', 'ready', 'run'], runner.runnerContract);

export type RunnerParts = runner.RunnerParts;
/** The loaded model that a runner runs. The engine binds it. */
export const RunnerParts = token<RunnerParts>('RunnerParts', 'model');

/** Lowerings of ops, each for its platform. A plugin adds lowerings of its own ops, or better ones of ours. */
export const Lowerings = listToken<graph.OpLowering<never, unknown>>('Lowerings', 'engine', graph.loweringMisfit);

/** Formats of checkpoints. The last one that reads a path opens it, so a plugin's format comes before ours. */
export const CheckpointFormats = listToken<coreModel.CheckpointFormat>('CheckpointFormats', 'engine', ['reads', 'open']);

/** Formats of tokenizers. The last one that reads a checkpoint's tokenizer is taken, so a plugin's format comes before ours. */
export const Tokenizers = listToken<TokenizerFormat>('Tokenizers', 'engine', ['open']);

export type ModelFiles = files.ModelFiles;
/** Reads a model's files. */
export const ModelFiles = token<ModelFiles>('ModelFiles', 'engine', ['open', 'text']);

export type WeightPolicy = coreModel.WeightPolicy;
/** The formats in which weights are kept (`--weights auto`). Default: those of the chosen one of `Backends`, else float32. */
export const WeightPolicy = token<WeightPolicy>('WeightPolicy', 'engine', 'function');

export type SchedulerPolicy = scheduler.SchedulerPolicy;
/** Which waiting sequence is next, and how much of a prompt a step computes. Default: first come, first served. */
export const SchedulerPolicy = token<SchedulerPolicy>('SchedulerPolicy', 'engine', ['next', 'prefillTokens']);

export type SequencePolicies = scheduler.SequencePolicies;
/** The policies of the step loop. */
export const SequencePolicies = token<SequencePolicies>('SequencePolicies');

/** Change the logits of each sequence before a token is chosen, in order. Ours come first: bias and penalties of the API. */
export const LogitsProcessors = listToken<LogitsProcessor>('LogitsProcessors', 'engine', ['start']);
