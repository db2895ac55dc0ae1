import { basename } from 'node:path';
import type { LanguageModel } from '@graft/core-model';
import { rangesOf } from '@graft/graph';
import { explain, groupPatches, type HookRunner } from '@graft/registry';
import type { BackendChoice } from './backend-choice.ts';
import type { EngineConfig } from './config.ts';
import type { EngineInfo, ModelChanges } from './engine.ts';
import type { GenerationDefaults } from './generation-config.ts';
import type { ImageLimits } from './image/image-config.ts';
import type { LoadedModel, LoadOptions } from './load-model.ts';
import { readAsText } from './model-source.ts';
import type { ModelText } from './text/model-text.ts';

/** Describes an engine that has started. */
export function infoOf(
  { config, plugins, platform }: Pick<LoadOptions, 'config' | 'plugins' | 'platform'>,
  loaded: LoadedModel,
  text: ModelText,
  generationDefaults: GenerationDefaults,
  backend: BackendChoice | null,
): EngineInfo {
  const { resolution, hooks, context, model, readAs, timings, warmUp } = loaded;
  return {
    model: config.servedModelName ?? basename(config.model).replace(/\.gguf$/, ''),
    architecture: resolution.architecture,
    modelClass: model.constructor.name,
    platform: context.platform,
    device: platform.device,
    platformReason: platform.reason,
    mode: context.mode,
    backend: backend && { name: backend.candidate.name, reason: backend.reason },
    weights: commonFormat(model),
    maxModelLength: context.maxModelLength,
    maxSequences: config.maxSequences,
    vocabSize: loaded.config.vocabSize,
    hasChatTemplate: text.template !== null,
    generationDefaults,
    readsImages: readsImages(loaded),
    imageLimits: imageLimitsOf(config),
    resolution,
    readAs,
    explanation: [explain(resolution), ...readAsText(readAs)].join('\n'),
    changes: changesOf(hooks),
    plugins: plugins.plugins.map(({ name }) => name),
    timings,
    warmUp,
    createdAt: Math.floor(Date.now() / 1000),
  };
}

/** Whether the model was built with its vision tower, and the runner can run it. */
export function readsImages({ tower, runner }: Pick<LoadedModel, 'tower' | 'runner'>): boolean {
  return tower !== null && runner.embedImages !== undefined;
}

export function imageLimitsOf({ maxImages, maxImageBytes, maxImagePixels, maxImageFrames }: EngineConfig): ImageLimits {
  return { maxImages, maxImageBytes, maxImagePixels, maxImageFrames };
}

export function changesOf(hooks: HookRunner): ModelChanges {
  const record = hooks.toJSON();
  return { ...record, patches: groupPatches(record.patches) };
}

/** The storage format of most weights, by bytes of logical elements. */
export function commonFormat(model: LanguageModel): string {
  const sizes = new Map<string, number>();
  for (const [, { dtype, shape }] of model.namedParameters()) {
    const elements = shape.reduce((product, dim) => product * dim, 1);
    const ranges = rangesOf(dtype) ?? [{ format: dtype, rows: shape.at(-2) ?? 1 }];
    for (const { format, rows } of ranges) sizes.set(format, (sizes.get(format) ?? 0) + (elements * rows) / (shape.at(-2) ?? 1));
  }
  return [...sizes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 'none';
}
