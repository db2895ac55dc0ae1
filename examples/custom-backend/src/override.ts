import { type Llama4Attention, Llama4DecoderLayer, Llama4ForCausalLM } from '@graft/core-model';
import type { Tensor } from '@graft/graph';
import { InitHook, type Patches } from '@graft/registry';

/**
 * Upstream rotates queries and keys, then norms each head. The norm has no weight and a rotation keeps a head's length, so the other order gives the same
 * numbers up to rounding; and the rotation then stands before the attention, whose kernel does it: two nodes and two copies a layer fall away.
 */
function normBeforeRotation(this: Llama4Attention, positions: Tensor, hiddenStates: Tensor): Tensor {
  const qkv = this.qkv_proj.forward(hiddenStates); // [batch, sequence, qSize + 2 * kvSize]
  const [query, key, value] = qkv.split(this.qSize, this.kvSize, this.kvSize);
  const normed = [this.qk_norm!.forward(query), this.qk_norm!.forward(key)] as const;
  const [rotatedQuery, rotatedKey] = this.rotary_emb!.forward(positions, ...normed);
  return this.o_proj.forward(this.attn.forward(rotatedQuery, rotatedKey, value));
}

/** What is worth changing here: each node of the graph costs more in WebAssembly than in native code. */
export class WasmLlama4ForCausalLM extends Llama4ForCausalLM {
  @InitHook({ reason: 'lets the attention kernel rotate queries and keys that are normed' })
  normFirst(patches: Patches): void {
    for (const layer of this.model.layers) {
      const normed = layer instanceof Llama4DecoderLayer && layer.self_attn.qk_norm !== null;
      if (normed) patches.replaceMethod(layer.self_attn, 'forward', normBeforeRotation);
    }
  }
}
