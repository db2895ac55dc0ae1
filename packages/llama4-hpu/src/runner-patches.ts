import { type Attention, Llama4Attention, type Llama4DecoderLayer } from '@graft/core-model';
import type { Module, Tensor } from '@graft/graph';
import type { Patches } from '@graft/registry';
import { decoderLayers } from './layer-kinds.ts';

/** An attention that `setChunkedAttention` may have marked. */
interface Marked extends Attention {
  readonly isChunkedAttention?: boolean;
}

/**
 * Marks each attention with a chunked cache for the runner, in every mode, because `unifyAttentionTypes` changes its class. Changes no number. vllm_gaudi:
 * `maybe_set_chunked_attention_layers`, which compares the names of classes, and only in models with images.
 */
export function setChunkedAttention(model: Module, _context: unknown, patches: Patches): void {
  for (const { self_attn } of decoderLayers(model)) {
    if (self_attn.attn.getKvCacheSpec().kind !== 'chunked-local') continue;
    const reason = 'tells the runner that the cache starts again at each chunk';
    patches.setField(self_attn.attn, 'isChunkedAttention', true, { reason, readBy: 'the runner' });
  }
}

/** Layers that `setChunkedAttention` marked. */
export function chunkedAttentionLayers(model: Module): Llama4DecoderLayer[] {
  return decoderLayers(model).filter(({ self_attn }) => (self_attn.attn as Marked).isChunkedAttention === true);
}

/**
 * Gives each attention the temperature of `hpuAttnScale`: the same values, for positions that are padded to `[batch, query]`. One function for all
 * layers, so that no guard on its identity tells two apart. vllm_gaudi: `patch_llama4_get_attn_scale`, which makes one a layer.
 */
export function patchAttentionScale(model: Module, _context: unknown, patches: Patches): void {
  for (const { self_attn } of decoderLayers(model)) {
    patches.replaceMethod(self_attn, 'getAttnScale', hpuAttnScale, { reason: 'positions come padded, one row a sequence' });
  }
}

/** Upstream's `getAttnScale`, asked for all positions as one row. `[batch, query]` -> `[batch, query, 1]`. */
export function hpuAttnScale(this: Llama4Attention, positions: Tensor): Tensor {
  const [batch, query] = [positions.dim(0), positions.dim(1)];
  const flat = positions.reshape(1, batch.times(query)); // [1, batch * query]
  const scale = Llama4Attention.prototype.getAttnScale.call(this, flat); // [1, batch * query, 1]
  return scale.reshape(batch, query, 1);
}
