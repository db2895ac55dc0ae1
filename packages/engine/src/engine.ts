import type { LoadReport } from '@graft/core-model';
import type { HookRecord, PatchGroup, RenameRecord, Resolution } from '@graft/registry';
import type { ImageLimits } from './image/image-config.ts';
import type { GenerateRequest, TokenDelta } from './request.ts';
import type { RunnerStats, WarmUpSummary } from './runner/model-runner.ts';

/** Where a start or a reload has got to; `fraction` is null while the total is unknown. */
export interface LoadProgress {
  step: 'download' | 'resolve' | 'construct' | 'load' | 'open' | 'capture' | 'compile' | 'warm-up' | 'drain';
  message: string;
  fraction: number | null;
}

/** A graph that a running engine had to make while requests waited. */
export interface Recompile {
  /** ISO 8601. */
  at: string;
  /** Of the graph, such as `decoder-layer`; `bucket` for a static shape that the warm-up left out. */
  region: string;
  /** The module, or the bucket. */
  path: string;
  /** Why no graph that exists serves: the guard's path in the module or the argument, what a graph expects, and what came. */
  failures: readonly { guard: string; expected: string; actual: string }[];
  /** How long requests waited. */
  stallMs: number;
}

/** What an engine reports while it starts and runs. */
export interface EngineEvents {
  /** With `onRecompile: 'warn'`. */
  'graph:recompile': Recompile;
  'hook:warning': { hook: string; plugin: string; message: string };
}

/** What the hooks did to the model, as data. */
export interface ModelChanges {
  hooks: readonly HookRecord[];
  renames: readonly RenameRecord[];
  /** The patches in effect, like ones together: there are as many as layers. */
  patches: readonly PatchGroup[];
}

/** What a running engine says of itself: `/health`, `/v1/models`, the page's panel and `graft explain` show it. */
export interface EngineInfo {
  /** The name under which the model is served. */
  model: string;
  architecture: string;
  /** The class that serves it: upstream's or an override. */
  modelClass: string;
  platform: string;
  device: 'device' | 'emulated';
  /** Why this platform, and what its detector said. */
  platformReason: string;
  mode: string;
  /** e.g. `float32`, or `int8b32` for most linear layers. */
  weights: string;
  maxModelLength: number;
  maxSequences: number;
  vocabSize: number;
  hasChatTemplate: boolean;
  /** Whether a request may bring images, and what they may cost. */
  readsImages: boolean;
  imageLimits: ImageLimits;
  /** Which classes serve and why, with the instances that each override replaced; and the same as text. */
  resolution: Resolution;
  /** The checkpoint's own architecture, where it is read as another family's, and why the answers are the same. */
  readAs: { readonly from: string; readonly why: string } | null;
  explanation: string;
  changes: ModelChanges;
  plugins: string[];
  /** Seconds that each step of the path took. */
  timings: Record<string, number>;
  /** What the warm-up ran; null where nothing is warmed up. */
  warmUp: WarmUpSummary | null;
  createdAt: number;
}

/** Counts of an engine since its start; a reload that replaces graphs adds its own. */
export interface EngineStats extends RunnerStats {
  running: number;
  waiting: number;
  freeSlots: number;
  promptTokens: number;
  generationTokens: number;
}

export interface ReloadOptions {
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

/** What a reload of the weights did. */
export interface ReloadReport extends Omit<LoadReport, 'seconds'> {
  /** The checkpoint whose weights serve now. */
  model: string;
  /** The storage format of most weights, as in `EngineInfo`. */
  weights: string;
  /** What became of each post-load hook. */
  hooks: HookRecord[];
  /** Parameters that are served under another name than the one they are loaded by. */
  renames: RenameRecord[];
  /** Seconds of each step. */
  timings: Record<string, number>;
}

/** The engine as its users see it; `LlmEngine` in process, `EngineWorker` behind a worker thread. */
export interface Engine {
  readonly info: EngineInfo;
  /**
   * Continues the prompt. Ending the iterator early, aborting the signal or an error free the slot.
   * @throws PromptTooLongError, InvalidRequestError before the first delta; the signal's reason after an abort.
   */
  generate(request: GenerateRequest, options?: { signal?: AbortSignal }): AsyncGenerator<TokenDelta, void, void>;
  tokenize(text: string): Promise<number[]>;
  /**
   * Serves another checkpoint's weights, of the same config. Requests are served on the old weights while the new ones are read, checked and compiled;
   * then those that run end on the old weights, those that wait start on the new ones. Name, tokenizer and chat template stay. An error or an abort leaves
   * the old weights serving. At its peak both sets of weights are in memory.
   * @param model a checkpoint folder or a .gguf file.
   * @throws ReloadConfigError, ReloadBusyError, the errors of reading a checkpoint and of hooks; the signal's reason.
   */
  reloadWeights(model: string, options?: ReloadOptions): Promise<ReloadReport>;
  stats(): Promise<EngineStats>;
  close(): Promise<void>;
}
