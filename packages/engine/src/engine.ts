import type { GenerateRequest, TokenDelta } from './request.ts';

/** Where a start has got to; `fraction` is null while the total is unknown. */
export interface LoadProgress {
  step: 'download' | 'resolve' | 'construct' | 'load' | 'capture' | 'compile' | 'warm-up';
  message: string;
  fraction: number | null;
}

/** What a running engine says of itself: `/health`, `/v1/models`, the page's panel and `graft explain` show it. */
export interface EngineInfo {
  /** The name under which the model is served. */
  model: string;
  architecture: string;
  /** The class that serves it, e.g. `HpuLlama4ForCausalLM`. */
  modelClass: string;
  platform: string;
  device: 'device' | 'emulated';
  mode: string;
  /** e.g. `float32`, or `int8b32` for most linear layers. */
  weights: string;
  maxModelLength: number;
  maxSequences: number;
  vocabSize: number;
  hasChatTemplate: boolean;
  /** The resolution as data (`ResolutionRecord` of the registry) and as text. */
  resolution: unknown;
  explanation: string;
  plugins: string[];
  /** Seconds that each step of the path took. */
  timings: Record<string, number>;
  createdAt: number;
}

export interface EngineStats {
  running: number;
  waiting: number;
  freeSlots: number;
  promptTokens: number;
  generationTokens: number;
  captures: number;
  compiles: number;
  recompiles: number;
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
  stats(): Promise<EngineStats>;
  close(): Promise<void>;
}
