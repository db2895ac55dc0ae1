import type { Llama4ForCausalLM, Llama4Moe, LlamaMlp } from '@graft/core-model';
import { Llama4DecoderLayer } from '@graft/core-model';
import { Module, memoryStorage, type Tensor } from '@graft/graph';
import { HpuLlama4ForCausalLM } from '@graft/llama4-hpu/api';
import { definePlugin, type Patches, PostLoadHook } from '@graft/registry';

/** Models whose post-load hooks have run, the newest last. */
export const models: Llama4ForCausalLM[] = [];

class Wrapped extends Module {
  readonly inner: LlamaMlp | Llama4Moe;
  constructor(inner: LlamaMlp | Llama4Moe) {
    super();
    this.inner = inner;
  }
  forward(x: Tensor): Tensor {
    return this.inner.forward(x);
  }
}

/** Gaudi's class on the cpu, with a hook of each policy: parameters are renamed once for good and once each time, and one is computed from the weights. */
class WrappingLlama4 extends HpuLlama4ForCausalLM {
  @PostLoadHook({ reload: 'keep' })
  wrapSharedExperts(patches: Patches): void {
    for (const layer of this.decoderLayers()) {
      if ('shared_expert' in layer.feed_forward)
        patches.wrapChild(layer.feed_forward, 'shared_expert', (inner: LlamaMlp) => new Wrapped(inner));
    }
  }

  @PostLoadHook({ reload: 'rerun' })
  doubleFinalNorm(): void {
    const { weight } = this.model.norm!;
    weight.setStorage(memoryStorage('float32', weight.shape, { data: weight.toFloat32().map((value) => value * 2) }));
  }

  @PostLoadHook({ reload: 'undo-redo' })
  wrapFeedForward(patches: Patches): void {
    for (const layer of this.decoderLayers()) patches.wrapChild(layer, 'feed_forward', (inner: LlamaMlp | Llama4Moe) => new Wrapped(inner));
    if (!models.includes(this)) models.push(this);
  }

  private decoderLayers(): Llama4DecoderLayer[] {
    return [...this.model.layers].filter((layer) => layer instanceof Llama4DecoderLayer);
  }
}

export default definePlugin({
  name: 'wrapping',
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'cpu', model: async () => WrappingLlama4 }],
});
