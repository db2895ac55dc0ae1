import type { LoadReport } from '@graft/core-model';
import type { HookRecord, PatchGroup, RenameRecord, Resolution } from '@graft/registry';
import type { GenerationDefaults } from './generation-config.ts';
import type { ImageLimits } from './image/image-config.ts';
import type { GenerateRequest, TokenDelta } from './request.ts';
import type { RunnerStats, WarmUpSummary } from './runner/model-runner.ts';

/** Progress of a start or a reload. `fraction` is null while the total is unknown. */
export interface LoadProgress {
  step: 'download' | 'resolve' | 'construct' | 'load' | 'measure' | 'open' | 'capture' | 'compile' | 'warm-up' | 'drain';
  message: string;
  fraction: number | null;
}

/** A graph that a running engine made while requests waited. */
export interface Recompile {
  /** ISO 8601. */
  at: string;
  /** The graph's region, such as `decoder-layer`. `bucket` for a static shape that the warm-up left out. */
  region: string;
  /** The module, or the bucket. */
  path: string;
  /** Why no existing graph fits: the guard's path in the module or the argument, the expected value, and the actual one. */
  failures: readonly { guard: string; expected: string; actual: string }[];
  /** How long requests waited. */
  stallMs: number;
}

/** Events of an engine, during its start and afterwards. */
export interface EngineEvents {
  /** With `onRecompile: 'warn'`. */
  'graph:recompile': Recompile;
  'hook:warning': { hook: string; plugin: string; message: string };
  'load:warning': { message: string };
}

/** The changes that hooks made to the model, as data. */
export interface ModelChanges {
  hooks: readonly HookRecord[];
  renames: readonly RenameRecord[];
  /** The patches in effect. Patches that differ only in their layer are one group. */
  patches: readonly PatchGroup[];
}

/** The description of a running engine. `/health`, `/v1/models`, the page's panel and `graft explain` show it. */
export interface EngineInfo {
  /** The name under which the model is served. */
  model: string;
  architecture: string;
  /** The class that serves: upstream's or an override. */
  modelClass: string;
  platform: string;
  device: 'device' | 'emulated';
  /** Why this platform was chosen, with its detector's words. */
  platformReason: string;
  mode: string;
  /** The backend that computes and why it was chosen; null on a platform that has no choice. */
  backend: { readonly name: string; readonly reason: string } | null;
  /** e.g. `float32`, or `int8b32` for most linear layers. */
  weights: string;
  maxModelLength: number;
  maxSequences: number;
  vocabSize: number;
  hasChatTemplate: boolean;
  /** Where a request gets the values that it leaves out: the model's generation_config.json. */
  generationDefaults: GenerationDefaults;
  /** Whether a request may contain images; `imageLimits` applies to them. */
  readsImages: boolean;
  imageLimits: ImageLimits;
  /** Which classes serve and why, with the instances that each override replaced. `explanation` is the same as text. */
  resolution: Resolution;
  /** The checkpoint's own architecture and why the answers are the same, if it is read as another family's; otherwise null. */
  readAs: { readonly from: string; readonly why: string } | null;
  explanation: string;
  changes: ModelChanges;
  plugins: string[];
  /** Seconds of each step of the path. */
  timings: Record<string, number>;
  /** Null without a warm-up. */
  warmUp: WarmUpSummary | null;
  createdAt: number;
}

/** Counts since the engine started. A reload that replaces the runner adds the new runner's counts. */
export interface EngineStats extends RunnerStats {
  running: number;
  waiting: number;
  freeSlots: number;
  promptTokens: number;
  generationTokens: number;
  /** Proposals of prompt lookup, their tokens, and those of them that were chosen. */
  numDrafts: number;
  numDraftTokens: number;
  numAcceptedTokens: number;
}

export interface ReloadOptions {
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

/** The result of a reload of weights. */
export interface ReloadReport extends Omit<LoadReport, 'seconds'> {
  /** The checkpoint whose weights serve now. */
  model: string;
  /** The storage format of most weights, as in `EngineInfo`. */
  weights: string;
  /** The outcome of each post-load hook. */
  hooks: HookRecord[];
  /** Parameters whose name in the served model differs from their name at load. */
  renames: RenameRecord[];
  /** Seconds of each step. */
  timings: Record<string, number>;
}

/** The engine as its users see it; `LlmEngine` in process, `EngineWorker` behind a worker thread. */
export interface Engine {
  readonly info: EngineInfo;
  /**
   * Continues the prompt. Ending the iterator early, an abort and an error all free the slot.
   * @throws PromptTooLongError, InvalidRequestError before the first delta; the signal's reason after an abort.
   */
  generate(request: GenerateRequest, options?: { signal?: AbortSignal }): AsyncGenerator<TokenDelta, void, void>;
  tokenize(text: string): Promise<number[]>;
  /**
   * Serves the weights of another checkpoint with the same config. The old weights serve while the new ones are read, checked and compiled. Running requests
   * then end on the old weights, and waiting requests start on the new ones. Name, tokenizer and chat template stay. After an error or an abort the old
   * weights keep serving. At the peak, both sets of weights are in memory.
   * @param model a checkpoint folder or a .gguf file.
   * @throws ReloadConfigError, ReloadBusyError, the errors of reading a checkpoint and of hooks; the signal's reason.
   */
  reloadWeights(model: string, options?: ReloadOptions): Promise<ReloadReport>;
  stats(): Promise<EngineStats>;
  close(): Promise<void>;
}
