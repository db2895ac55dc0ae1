import { Llama4DecoderLayer } from '@graft/core-model';
import type { Module } from '@graft/graph';
import { HpuLlama4FeedForward } from './patches/feed-forward-types.ts';

/** The decoder layers of this rank, also within a model with images. */
export function decoderLayers(model: Module): Llama4DecoderLayer[] {
  return [...model.namedModules()].map(([, module]) => module).filter((module) => module instanceof Llama4DecoderLayer);
}

/** The kinds of decoder layers, each once: the feed-forward class and the KV cache, such as `Llama4Moe over chunked-local-8192`. */
export function layerKinds(model: Module): string[] {
  const kinds = decoderLayers(model).map(({ feed_forward, self_attn }) => {
    const part: object = feed_forward;
    const feedForward = part instanceof HpuLlama4FeedForward ? part.inner : part; // what a guard sees through the wrapper
    const spec = self_attn.attn.getKvCacheSpec();
    return `${feedForward.constructor.name} over ${spec.kind === 'chunked-local' ? `chunked-local-${spec.chunkSize}` : spec.kind}`;
  });
  return [...new Set(kinds)];
}

/**
 * Whether decoder layers differ in their feed-forward class or KV cache. A bucket may then need more than one graph, and a warm-up of one layer does not
 * cover the others.
 */
export function hasHeterogeneousLayers(model: Module): boolean {
  return layerKinds(model).length > 1;
}
