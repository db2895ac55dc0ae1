import { Llama4DecoderLayer } from '@graft/core-model';
import type { Module } from '@graft/graph';
import { HpuLlama4FeedForward } from './patches/feed-forward-types.ts';

/** The decoder layers that this rank holds, wherever the language model stands in the model. */
export function decoderLayers(model: Module): Llama4DecoderLayer[] {
  return [...model.namedModules()].map(([, module]) => module).filter((module) => module instanceof Llama4DecoderLayer);
}

/** What a decoder layer is made of, as far as that differs between layers of one model: `Llama4Moe over chunked-local-8192`. */
export function layerKinds(model: Module): string[] {
  const kinds = decoderLayers(model).map(({ feed_forward, self_attn }) => {
    const part: object = feed_forward;
    const feedForward = part instanceof HpuLlama4FeedForward ? part.inner : part; // what a guard sees through the wrapper
    const spec = self_attn.attn.getKvCacheSpec();
    return `${feedForward.constructor.name} over ${spec.kind === 'full' ? 'full' : `chunked-local-${spec.chunkSize}`}`;
  });
  return [...new Set(kinds)];
}

/**
 * Whether the decoder layers of a model differ: in their feed-forward class, or in the KV cache that they use. Then a bucket may need more graphs than one,
 * and a warm-up that has seen one layer has not seen all.
 */
export function hasHeterogeneousLayers(model: Module): boolean {
  return layerKinds(model).length > 1;
}
