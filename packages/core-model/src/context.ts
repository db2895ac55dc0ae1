import { type Build, buildUpstream } from '@graft/registry';
import type { ModelConfig } from './families/family.ts';

/** The part of the layers that a model holds when they are divided over ranks. */
export interface PipelineStage {
  rank: number;
  size: number;
}

/** All that a model is built from; its constructor's first argument, and that of every part which builds parts. */
export interface ModelContext<Config extends ModelConfig = ModelConfig> {
  /** The name in config.json that was resolved. */
  readonly architecture: string;
  readonly config: Config;
  readonly platform: string;
  readonly mode: string;
  /** Tokens of a sequence that is served; sizes the rotary tables and the full KV cache. */
  readonly maxModelLength: number;
  readonly pipeline: PipelineStage;
  /** Options of an override, by its own names, e.g. `{ branchFree: false }`; the override that reads them checks them. Upstream has none. */
  readonly overrideOptions?: Readonly<Record<string, unknown>>;
  /** Builds a part: the class that serves in its place, with the same arguments. */
  readonly build: Build;
}

/** The context of a model of upstream's classes alone, without an engine. @param more replaces what is assumed: platform cpu, mode full, one rank. */
export function upstreamContext<Config extends ModelConfig>(
  architecture: string,
  config: Config,
  more: Partial<ModelContext<Config>> = {},
): ModelContext<Config> {
  const { maxPositionEmbeddings: maxModelLength } = config;
  return {
    architecture,
    config,
    platform: 'cpu',
    mode: 'full',
    maxModelLength,
    pipeline: { rank: 0, size: 1 },
    build: buildUpstream,
    ...more,
  };
}
