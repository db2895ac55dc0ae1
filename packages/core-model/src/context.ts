import type { Llama4TextConfig } from './config.ts';
import type { Llama4VisionConfig } from './vision-config.ts';

/** The part of the layers that a model holds when they are divided over ranks. */
export interface PipelineStage {
  rank: number;
  size: number;
}

/** All that a model is built from; its constructor's one argument, for upstream and override alike. */
export interface ModelContext {
  readonly architectures: readonly string[];
  readonly config: Llama4TextConfig;
  /** What reads images. Null or left out: text alone is served, and nothing is built or loaded for images. */
  readonly vision?: Llama4VisionConfig | null;
  readonly platform: string;
  readonly mode: string;
  /** Tokens of a sequence that is served; sizes the rotary tables and the full KV cache. */
  readonly maxModelLength: number;
  readonly pipeline: PipelineStage;
  /** Options of an override, by its own names, e.g. `{ branchFree: false }`; the override that reads them checks them. Upstream has none. */
  readonly overrideOptions?: Readonly<Record<string, unknown>>;
}
