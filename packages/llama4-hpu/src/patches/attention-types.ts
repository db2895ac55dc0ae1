import { Attention, ChunkedLocalAttention, type Llama4DecoderLayer } from '@graft/core-model';
import type { Patches } from '@graft/registry';

/**
 * Removes the guard on the class of `self_attn.attn`: every chunked-local attention becomes an `Attention`, which has the same `forward`. The chunk only
 * concerns the KV cache, so the instance keeps its `getKvCacheSpec`; `wasChunkedLocal` marks it. vllm_gaudi: `_unify_attention_types`, which assigns
 * `__class__` and binds the old method to each instance. Here the method stays unbound, because a bound one differs on every layer.
 */
export function unifyAttentionTypes(layers: Iterable<Llama4DecoderLayer>, patches: Patches): void {
  const reason = 'the guard on the class of self_attn.attn';
  for (const { self_attn } of layers) {
    const { attn } = self_attn;
    if (!(attn instanceof ChunkedLocalAttention)) continue;
    const { getKvCacheSpec } = attn;
    patches.swapClass(attn, Attention, { reason });
    patches.replaceMethod(attn, 'getKvCacheSpec', getKvCacheSpec, {
      reason: 'the layer keeps the cache of its chunk',
      readBy: 'the engine',
    });
    patches.setField(attn, 'wasChunkedLocal', true, { reason: 'marks a layer whose class was chunked-local', readBy: 'the plugin' });
  }
}
