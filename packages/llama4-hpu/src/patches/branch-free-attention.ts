import type { HeadRmsNorm, Llama4Attention, Llama4DecoderLayer, RotaryEmbedding } from '@graft/core-model';
import { Buffer, Identity, type Tensor } from '@graft/graph';
import type { Patches } from '@graft/registry';

/** An attention as `branchFreeAttentionForward` reads it: no field is null, and no constant differs between layers. */
export interface BranchFreeAttention extends Llama4Attention {
  readonly rotary_emb: RotaryEmbedding;
  readonly qk_norm: HeadRmsNorm;
  /** `[1]`, not persistent: 1 on layers that rotate and norm queries and keys, else 0; and the reverse. */
  readonly ropeMask: Buffer;
  readonly nopeMask: Buffer;
  /** `[1]`, not persistent: 1 on layers that scale queries by their position, else 0; and the reverse. */
  readonly temperatureMask: Buffer;
  readonly unscaledMask: Buffer;
}

/**
 * Removes the guards on `nope`, `rotary_emb`, `qk_norm` and `attnTemperatureTuning`: every layer gets the same `forward`, the same modules, and masks of
 * one shape, so RoPE and NoPE layers differ only in values. vllm_gaudi: `_apply_branch_free_attention`, which is off there because its compiler merges
 * batch and sequence when both are 1. Graft never merges two symbols, so it is on here. A model without a RoPE layer is not changed, with a warning.
 */
export function applyBranchFreeAttention(layers: Iterable<Llama4DecoderLayer>, patches: Patches): void {
  const attentions = [...layers].map(({ self_attn }) => self_attn);
  const rotated = attentions.find(({ rotary_emb }) => rotary_emb !== null);
  if (rotated === undefined) {
    patches.warn('No layer has a rotation (RoPE) that others could use: attention was not made branch-free.');
    return;
  }
  const shared = { rotary: rotated.rotary_emb!, norm: rotated.qk_norm ?? new Identity() };
  for (const attention of attentions) patchAttentionModule(attention, shared, patches);
}

/**
 * Makes one attention branch-free: lends the modules that it lacks, and sets its masks. A lent module is in the tree only under its owner, and a guard
 * treats it like the layer's own. vllm_gaudi: `_patch_attention_module`, which registers the rotary module again on each layer.
 */
export function patchAttentionModule(
  attention: Llama4Attention,
  { rotary, norm }: { rotary: RotaryEmbedding; norm: HeadRmsNorm | Identity },
  patches: Patches,
): void {
  const isRotated = attention.rotary_emb !== null;
  const isScaled = attention.nope && attention.attnTemperatureTuning;
  if (!isRotated) patches.lend(attention, 'rotary_emb', rotary, { reason: 'the guard on null of rotary_emb' });
  if (attention.qk_norm === null) patches.lend(attention, 'qk_norm', norm, { reason: 'the guard on null of qk_norm' });
  const masks = { ropeMask: isRotated, nopeMask: !isRotated, temperatureMask: isScaled, unscaledMask: !isScaled };
  for (const [name, isOn] of Object.entries(masks)) {
    patches.setField(attention, name, new Buffer([1], Float32Array.of(isOn ? 1 : 0)), { reason: 'a value replaces a branch' });
  }
  patches.replaceMethod(attention, 'forward', branchFreeAttentionForward, {
    reason: 'the branches on nope, rotary_emb, qk_norm and temperature',
  });
}

/**
 * `Llama4Attention.forward` without branches: both ways are computed, and masks of 1 and 0 choose exactly. `positions [batch, sequence]`,
 * `hiddenStates [batch, sequence, hidden]` -> as `hiddenStates`. vllm_gaudi: `_branch_free_attention_forward`.
 */
export function branchFreeAttentionForward(this: BranchFreeAttention, positions: Tensor, hiddenStates: Tensor): Tensor {
  const qkv = this.qkv_proj.forward(hiddenStates); // [batch, sequence, qSize + 2 * kvSize]
  const [query, key, value] = qkv.split(this.qSize, this.kvSize, this.kvSize);
  const [rotatedQuery, rotatedKey] = this.rotary_emb.forward(positions, query, key);
  const chosenQuery = choose(this, this.qk_norm.forward(rotatedQuery), query);
  const chosenKey = choose(this, this.qk_norm.forward(rotatedKey), key);
  const scale = this.getAttnScale(positions).mul(this.temperatureMask).add(this.unscaledMask); // [batch, sequence, 1]
  return this.o_proj.forward(this.attn.forward(chosenQuery.mul(scale), chosenKey, value));
}

/** `rope` on a layer that rotates, `plain` on another; both `[batch, sequence, heads * headDim]`. */
function choose({ ropeMask, nopeMask }: Pick<BranchFreeAttention, 'ropeMask' | 'nopeMask'>, rope: Tensor, plain: Tensor): Tensor {
  return rope.mul(ropeMask).add(plain.mul(nopeMask));
}
