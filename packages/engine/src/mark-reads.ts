import { CaptureCache, readsOf } from '@graft/graph';
import type { BuiltModel } from './load-model.ts';
import { hasImages } from './runner/any-shape-runner.ts';
import { captureMultimodalModel, captureVisionModel } from './runner/capture-image-model.ts';
import { captureLanguageModel } from './runner/capture-language-model.ts';

/** Tells the ledger which patches `forward` reads. A model that was patched is captured for it once more: where recipes serve, runners capture nothing. */
export function markReads({ model, tower, config, hooks }: Pick<BuiltModel, 'model' | 'tower' | 'config' | 'hooks'>): void {
  if (hooks.ledger.toJSON().length === 0) return;
  const cache = new CaptureCache();
  const captured = hasImages(model, { tower })
    ? [captureMultimodalModel(model, cache, config.hiddenSize), captureVisionModel(model, cache, tower!)]
    : [captureLanguageModel(model, cache)];
  hooks.ledger.markRead(captured.flatMap(readsOf));
}
