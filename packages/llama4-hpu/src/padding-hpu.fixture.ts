import type { IntermediateTensors, ModelOutput } from '@graft/core-model';
import { SymbolicTensor, type Tensor } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import { HpuLlama4ForCausalLM } from './models/llama4.ts';

/** An override whose results depend on how a step is padded: those of a bucket of several tokens are a tenth larger. */
class PaddingLlama4ForCausalLM extends HpuLlama4ForCausalLM {
  override forward(inputIds: Tensor, positions: Tensor, intermediate: IntermediateTensors | null, embeds: Tensor | null): ModelOutput {
    const output = super.forward(inputIds, positions, intermediate, embeds);
    if (inputIds.dim(1).equals(1) || !(output instanceof SymbolicTensor)) return output;
    return output.mul(1.1);
  }
}

export default definePlugin({
  name: 'padding',
  after: ['llama4-hpu'],
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'hpu', priority: 1, model: () => Promise.resolve(PaddingLlama4ForCausalLM) }],
});
