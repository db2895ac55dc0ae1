import type { Llama4TextConfig } from './config.ts';

/** The part of the layers that a model holds when they are divided over ranks. */
export interface PipelineStage {
  rank: number;
  size: number;
}

/** All that a model is built from; its constructor's one argument, for upstream and override alike. */
export interface ModelContext {
  readonly architectures: readonly string[];
  readonly config: Llama4TextConfig;
  readonly platform: string;
  readonly mode: string;
  /** Tokens of a sequence that is served; sizes the rotary tables and the full KV cache. */
  readonly maxModelLength: number;
  readonly pipeline: PipelineStage;
}
