// A first override: what a vendor writes to change how Llama 4 runs on a platform, without touching the model's own code.
import { type Attention, Llama4DecoderLayer, Llama4ForCausalLM } from '@graft/core-model';
import { ops, type Tensor } from '@graft/graph';
import { definePlugin, InitHook, type Patches } from '@graft/registry';

/** Logits become `cap * tanh(logits / cap)`, which stays between -cap and cap. Their order is kept, so greedy answers are too. */
export const softCap = 30;

/** For an attention kernel that takes no scale: queries are scaled before it. The same numbers, up to rounding. */
function prescaledAttention(this: Attention, query: Tensor, key: Tensor, value: Tensor): Tensor {
  const { numHeads, numKvHeads, headDim, keyCache, valueCache, queryStart, sequenceLengths, totalLength } = this;
  const scaled = query.mul(this.scale); // [batch, sequence, numHeads * headDim]
  return ops.attention(
    { query: scaled, key, value, keyCache, valueCache, queryStart, sequenceLengths, totalLength },
    { numHeads, numKvHeads, headDim, scale: 1 },
  );
}

/** One method overridden and one hook. It builds nothing and loads nothing: the rest of the model is upstream's. */
export class FirstOverride extends Llama4ForCausalLM {
  /** `[rows, hidden]` -> `[rows, vocabulary]`. tanh(x) is 2 * sigmoid(2x) - 1. */
  override computeLogits(hiddenStates: Tensor): Tensor {
    const logits = super.computeLogits(hiddenStates);
    return logits
      .mul(2 / softCap)
      .sigmoid()
      .mul(2 * softCap)
      .add(-softCap);
  }

  /** Runs before weights are read, and may not change what a checkpoint holds. Each patch is in a ledger, and undone when the hook fails. */
  @InitHook({ reason: 'the attention kernel takes no scale' })
  prescaleQueries(patches: Patches): void {
    for (const layer of this.model.layers) {
      if (layer instanceof Llama4DecoderLayer) patches.replaceMethod(layer.self_attn.attn, 'forward', prescaledAttention);
    }
  }
}

export default definePlugin({
  name: 'first-override',
  after: ['core-model'],
  overrides: [
    {
      of: 'Llama4ForCausalLM',
      platform: 'cpu',
      model: async () => FirstOverride,
      // What `graft contract` prints, less what is not used. When upstream moves, loading says so before weights are read.
      reliesOn: {
        version: '^0.1.0',
        attributes: ['model.layers.*.self_attn.attn'],
        methods: ['computeLogits(hiddenStates)'],
        copied: { 'Attention.forward': '1007438c586683d7' }, // prescaledAttention is that method with one line more
      },
    },
  ],
});
