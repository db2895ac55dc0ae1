import type { EventBus } from '@graft/common';
import type { ImageTower, LanguageModel, ModelContext } from '@graft/core-model';
import type { CapturedModel, HostTensor } from '@graft/graph';
import type { EngineConfig } from '../config.ts';
import type { EngineEvents, Recompile } from '../engine.ts';
import type { KvCachePlan } from '../kv-cache.ts';
import type { Report } from '../load-steps.ts';

/** Tokens of one sequence that are computed in a run. */
export interface RunRow {
  readonly tokenIds: readonly number[];
  /** Tokens of the sequence that are in the cache already. */
  readonly computed: number;
  /** In a step with images, for each token the row of `imageFeatures` that stands in its place; -1, and where this is left out: the token itself. */
  readonly imageRows?: readonly number[];
}

export interface RunStep {
  readonly firstSlot: number;
  /** Row i uses slot `firstSlot + i`; all rows have as many tokens. */
  readonly rows: readonly RunRow[];
  /** `last`: of each row's last token; `all`: of every token, row by row. */
  readonly logits: 'last' | 'all';
  /** `[rows, hidden]`, float32: what `embedImages` gave. Left out: no row of this step has an image. */
  readonly imageFeatures?: HostTensor;
  /** Whether no sequence holds this slot, so that a row of padding may write to its caches. Left out: none of the sequences' slots is free. */
  isFree?(slot: number): boolean;
  readonly signal?: AbortSignal;
}

/** Valid until the next run. */
export interface RunResult {
  readonly vocabSize: number;
  /** `[outputRows, vocabSize]` */
  readonly logits: Float32Array;
  /** Each `[batch, sequence, hidden]`, in the order of the layers that were asked for. */
  readonly auxHiddenStates: readonly Float32Array[];
}

/** Counted since the runner was made. */
export interface RunnerStats {
  /** Graphs captured from the `forward` of a region. */
  readonly captures: number;
  /** Compiled graphs that there are. */
  readonly compiles: number;
  /** Graphs that were optimised in this process; the others came from recipes. */
  readonly optimisations: number;
  /** Buckets that came from recipes. */
  readonly recipes: number;
  /** Graphs made after `ready`: a promise that there are none. */
  readonly recompiles: number;
  /** The latest of them, at most 50, oldest first. */
  readonly recentRecompiles: readonly Recompile[];
  readonly warmUpSeconds: number;
  /** Tokens that sequences asked for, and those computed with them to fill a bucket. */
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
  /** The most of a bucket that can be padding, from 0 to 1; null for what is never padded. */
  readonly padding: number | null;
}

/** What a warm-up ran and how the graphs were come by. */
export interface WarmUpSummary {
  readonly rows: readonly WarmUpRow[];
  readonly captured: number;
  readonly optimised: number;
  readonly fromRecipes: number;
  readonly seconds: number;
}

/**
 * Runs a model's steps: it has the compiled graphs and their caches. `open`, `capture`, `compile`, `warmUp` and `ready` are called once and in this order, then
 * `run` and `embedImages`, each one call at a time; the two may overlap.
 */
export interface ModelRunner extends Disposable {
  /** Opens the model on its device; nothing is compiled yet. */
  open?(report: Report, signal?: AbortSignal): Promise<void>;
  /** Known once the runner is open. */
  readonly kvCache: KvCachePlan;
  /** The most tokens of a prompt that a run takes; the scheduler also asks `kvCache.roomAfter`. */
  readonly maxPrefillTokens: number;
  capture(report: Report, signal?: AbortSignal): void | Promise<void>;
  /** The model's graphs for any shape. If left out, one more capture finds out which patches `forward` reads. */
  readonly captured?: readonly CapturedModel[];
  compile(report: Report, signal?: AbortSignal): Promise<void>;
  /** Runs what was compiled and checks what it gives. Left out, or null: there is nothing to warm up. */
  warmUp?(report: Report, signal?: AbortSignal): Promise<WarmUpSummary | null>;
  /** From here `config.onRecompile` says what a further capture means. */
  ready(): void;
  run(step: RunStep): Promise<RunResult>;
  /** For a model with images: `pixelValues [tiles, channels, side, side]` -> `[tiles * tokens, hidden]`, which is the caller's to keep. */
  embedImages?(pixelValues: HostTensor, signal?: AbortSignal): Promise<HostTensor>;
  /**
   * Whether `updateWeights` can follow: the model's weights have the types and shapes still that the graphs were compiled for. When it cannot, and where both
   * are left out, a reload of weights makes a second runner.
   */
  acceptsWeights?(): boolean;
  /**
   * Takes the values that the model's weights have now into the memory of the old ones; no step runs meanwhile. May refuse those that compute no numbers:
   * after an error the model gets its old values back, and this is called again.
   */
  updateWeights?(): void | Promise<void>;
  readonly stats: RunnerStats;
}

/** What a runner is made from. */
export interface RunnerParts {
  /** Loaded, its hooks run. */
  readonly model: LanguageModel;
  readonly context: ModelContext;
  /** What reads images; null: the model is served for text alone. */
  readonly tower: ImageTower | null;
  readonly config: EngineConfig;
  /** Where recompiles are reported. */
  readonly events?: EventBus<EngineEvents>;
}
