import { type Build, buildUpstream } from '@graft/registry';
import type { ModelConfig } from './families/family.ts';

/** The pipeline rank that a model is built for. */
export interface PipelineStage {
  rank: number;
  size: number;
}

/** The first argument of a model's constructor, and of each part that builds parts. */
export interface ModelContext<Config extends ModelConfig = ModelConfig> {
  /** The resolved name from config.json. */
  readonly architecture: string;
  readonly config: Config;
  readonly platform: string;
  readonly mode: string;
  /** The most tokens of a sequence. Sizes the rotary tables and the full KV cache. */
  readonly maxModelLength: number;
  readonly pipeline: PipelineStage;
  /** Options of an override, such as `{ branchFree: false }`. The override that reads them checks them. */
  readonly overrideOptions?: Readonly<Record<string, unknown>>;
  /** Builds the class that serves in place of a part's class, with the same arguments. */
  readonly build: Build;
}

/** The context of a model of upstream's classes, without an engine. @param more replaces the defaults: platform cpu, mode full, one rank. */
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
