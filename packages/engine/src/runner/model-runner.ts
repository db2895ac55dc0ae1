import type { EventBus } from '@graft/common';
import type { ImageTower, LanguageModel, ModelContext } from '@graft/core-model';
import type { CapturedModel, HostTensor } from '@graft/graph';
import type { EngineConfig } from '../config.ts';
import type { EngineEvents, Recompile } from '../engine.ts';
import type { KvCachePlan } from '../kv-cache.ts';
import type { Report } from '../load-steps.ts';

/** The tokens of one sequence in a run. */
export interface RunRow {
  readonly tokenIds: readonly number[];
  /** Tokens of the sequence in the cache. */
  readonly computed: number;
  /** In a step with images: for each token the row of `imageFeatures` that replaces it, or -1. Default: -1 for all. */
  readonly imageRows?: readonly number[];
}

export interface RunStep {
  readonly firstSlot: number;
  /** Row i uses slot `firstSlot + i`; all rows have as many tokens. */
  readonly rows: readonly RunRow[];
  /** `last`: the logits of each row's last token; `all`: of every token, row by row. */
  readonly logits: 'last' | 'all';
  /** From `embedImages`: `[rows, hidden]`, float32. Left out if no row has an image. */
  readonly imageFeatures?: HostTensor;
  /** Whether no sequence holds this slot, so that padding may write to its caches. Left out: no slot is free. */
  isFree?(slot: number): boolean;
  readonly signal?: AbortSignal;
}

/** Valid until the next run. */
export interface RunResult {
  readonly vocabSize: number;
  /** `[outputRows, vocabSize]` */
  readonly logits: Float32Array;
  /** Each `[batch, sequence, hidden]`, in the order of the requested layers. */
  readonly auxHiddenStates: readonly Float32Array[];
}

/** Counted since the runner was made. */
export interface RunnerStats {
  /** Graphs captured from the `forward` of a region. */
  readonly captures: number;
  /** Compiled graphs in memory. */
  readonly compiles: number;
  /** Graphs optimised in this process; the others come from recipes. */
  readonly optimisations: number;
  /** Buckets that came from recipes. */
  readonly recipes: number;
  /** Graphs made after `ready`: 0 if the warm-up was complete. */
  readonly recompiles: number;
  /** The latest of them, at most 50, oldest first. */
  readonly recentRecompiles: readonly Recompile[];
  readonly warmUpSeconds: number;
  /** Tokens of sequences; `paddedTokens` are the further ones that filled buckets. */
  readonly computedTokens: number;
  readonly paddedTokens: number;
}

/** One kind of bucket in a warm-up. */
export interface WarmUpRow {
  readonly kind: 'prompt' | 'decode' | 'prompt with images' | 'image';
  readonly buckets: number;
  /** Distinct shapes among them: buckets that differ in their context share a graph. */
  readonly graphs: number;
  readonly seconds: number;
  /** The largest part of a bucket that can be padding, from 0 to 1; null if it is never padded. */
  readonly padding: number | null;
}

/** The buckets that a warm-up ran, and how each graph was obtained. */
export interface WarmUpSummary {
  readonly rows: readonly WarmUpRow[];
  readonly captured: number;
  readonly optimised: number;
  readonly fromRecipes: number;
  readonly seconds: number;
}

/** The version of `ModelRunner`: a number more for each change that an implementation must follow. */
export const runnerContract = 1;

/**
 * Runs a model's steps: it has the compiled graphs and their caches. `open`, `capture`, `compile`, `warmUp` and `ready` are called once, in this order. Then
 * come `run` and `embedImages`, each one call at a time; a call of one may overlap with a call of the other.
 */
export interface ModelRunner extends Disposable {
  /** The version of this interface that it was written for; another one is refused. Default: the present one. */
  readonly contract?: typeof runnerContract;
  /** Opens the model on its device; nothing is compiled yet. */
  open?(report: Report, signal?: AbortSignal): Promise<void>;
  /** Known once the runner is open. */
  readonly kvCache: KvCachePlan;
  /** The most tokens of a prompt in one run; `kvCache.roomAfter` limits them further. */
  readonly maxPrefillTokens: number;
  capture(report: Report, signal?: AbortSignal): void | Promise<void>;
  /** The model's graphs for any shape, which show the patches that `forward` reads. If left out, the model is captured once more for that. */
  readonly captured?: readonly CapturedModel[];
  compile(report: Report, signal?: AbortSignal): Promise<void>;
  /** Runs each compiled graph and checks its results. Left out, or null: no warm-up. */
  warmUp?(report: Report, signal?: AbortSignal): Promise<WarmUpSummary | null>;
  /** From here a further capture is a recompile, and `config.onRecompile` applies. */
  ready(): void;
  /** The most tokens of one sequence in a run so that each one's logits are, bit for bit, those of a run of one token. Prompt lookup needs 2. Default: 1. */
  readonly exactRows?: number;
  run(step: RunStep): Promise<RunResult>;
  /** For a model with images: `pixelValues [tiles, channels, side, side]` -> `[tiles * tokens, hidden]`, owned by the caller. */
  embedImages?(pixelValues: HostTensor, signal?: AbortSignal): Promise<HostTensor>;
  /**
   * Whether `updateWeights` is possible: the model's weights still have the types and shapes that the graphs were compiled for. If not, or if both methods
   * are left out, a reload of weights makes a second runner.
   */
  acceptsWeights?(): boolean;
  /**
   * Copies the model's present weights over the old ones, while no step runs. It may refuse weights whose results are not finite. After an error the model
   * gets its old weights back, and this is called again.
   */
  updateWeights?(): void | Promise<void>;
  readonly stats: RunnerStats;
}

/** The loaded model, and how it is served. */
export interface RunnerParts {
  /** Loaded; its hooks have run. */
  readonly model: LanguageModel;
  readonly context: ModelContext;
  /** The vision tower; null if the model is served for text alone. */
  readonly tower: ImageTower | null;
  readonly config: EngineConfig;
  /** Receives recompiles. */
  readonly events?: EventBus<EngineEvents>;
}
