import type { Llama4DecoderLayer, Llama4Moe, LlamaMlp } from '@graft/core-model';
import { Module, type Tensor } from '@graft/graph';
import type { Patches } from '@graft/registry';

/**
 * Wraps a layer's feed-forward part, dense or with experts, in one class. The part's parameters are under `.inner`. vllm_gaudi: `HpuLlama4FeedForward`.
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
 * Moves the guard on the class of `feed_forward` to `feed_forward.inner`. This saves no graph, because a dense part and one with experts differ. It exists
 * for parity with vllm_gaudi: `_unify_feed_forward_types`. Renames parameters to `feed_forward.inner.*`.
 */
export function unifyFeedForwardTypes(layers: Iterable<Llama4DecoderLayer>, patches: Patches): void {
  const reason = 'the guard on the class of feed_forward; the one on feed_forward.inner stays';
  for (const layer of layers) {
    if (layer.feed_forward instanceof HpuLlama4FeedForward) continue;
    patches.wrapChild(layer, 'feed_forward', (inner: Llama4Moe | LlamaMlp) => new HpuLlama4FeedForward(inner), { reason });
  }
}
