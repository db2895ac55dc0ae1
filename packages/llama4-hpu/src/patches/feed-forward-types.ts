import type { Llama4DecoderLayer, Llama4Moe, LlamaMlp } from '@graft/core-model';
import { Module, type Tensor } from '@graft/graph';
import type { Patches } from '@graft/registry';

/**
 * One class in the place of a layer's feed-forward part, dense or with experts, which it calls. Its parameters are those of the part under `.inner`.
 * vllm_gaudi: `HpuLlama4FeedForward`.
 */
export class HpuLlama4FeedForward extends Module {
  readonly inner: Llama4Moe | LlamaMlp;

  constructor(inner: Llama4Moe | LlamaMlp) {
    super();
    this.inner = inner;
  }

  /** `[batch, sequence, hidden]` -> the same. */
  forward(x: Tensor): Tensor {
    return this.inner.forward(x);
  }
}

/**
 * Removes the guard on the class of `feed_forward`, and gets one on that of `feed_forward.inner` for it: no graph is saved, since a dense part and
 * one with experts do differ. It stands for parity with vllm_gaudi: `_unify_feed_forward_types`. Parameters are renamed to `feed_forward.inner.*`.
 */
export function unifyFeedForwardTypes(layers: Iterable<Llama4DecoderLayer>, patches: Patches): void {
  const reason = 'the guard on the class of feed_forward; that on feed_forward.inner stays';
  for (const layer of layers) {
    if (layer.feed_forward instanceof HpuLlama4FeedForward) continue;
    patches.wrapChild(layer, 'feed_forward', (inner: Llama4Moe | LlamaMlp) => new HpuLlama4FeedForward(inner), { reason });
  }
}
