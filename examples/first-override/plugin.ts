// A first override: what a vendor writes to change how Llama 4 runs on a platform, without touching the model's own code.
import { Llama4ForCausalLM, RmsNorm } from '@graft/core-model';
import type { Tensor } from '@graft/graph';
import { definePlugin } from '@graft/registry';

/** Logits become `cap * tanh(logits / cap)`, which stays between -cap and cap. Their order is kept, so greedy answers are too. */
export const softCap = 30;

/** The model, with one method overridden. It builds nothing and loads nothing: the rest is upstream's. */
export class FirstOverride extends Llama4ForCausalLM {
  /** `[rows, hidden]` -> `[rows, vocabulary]`. */
  override computeLogits(hiddenStates: Tensor): Tensor {
    return super.computeLogits(hiddenStates).div(softCap).tanh().mul(softCap);
  }
}

/** A layer of it, for a device whose norm kernel adds no residual: the sum is an op before it. The same numbers, up to rounding. */
export class SplitNorm extends RmsNorm {
  /** Both `[tokens, hidden]` -> the normed sum, and the sum. */
  override forwardWithResidual(x: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    const sum = residual === null ? x : x.add(residual);
    return [this.forward(sum), sum];
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
      reliesOn: { version: '^0.1.0', methods: ['computeLogits(hiddenStates)'] },
    },
    {
      of: 'RmsNorm',
      platform: 'cpu',
      within: ['Llama4ForCausalLM'],
      model: async () => SplitNorm,
      reliesOn: { version: '^0.1.0', methods: ['forward(x)', 'forwardWithResidual(x, residual)'] },
    },
  ],
});
