import { Llama4ForCausalLM, Llama4ForConditionalGeneration, Llama4Model, type ModelContext } from '@graft/core-model';
import { ops, type Tensor } from '@graft/graph';

/**
 * Removes the guard on `residual`, which is null on the first decoder layer only: with zeros there, the first layer takes the same graph as the others
 * of its kind. Adding zeros changes no value. vllm_gaudi: `HpuLlama4Model`, which copies upstream's `forward` for it.
 */
export class HpuLlama4Model extends Llama4Model {
  /** `[batch, sequence, hidden]` -> zeros of the same shape and dtype. */
  override initialResidual(hiddenStates: Tensor): Tensor {
    return ops.zerosLike({ x: hiddenStates });
  }
}

/** A Llama 4 that continues text, on Gaudi. vllm_gaudi: `HpuLlama4ForCausalLM`. */
export class HpuLlama4ForCausalLM extends Llama4ForCausalLM {
  override createModel(context: ModelContext): HpuLlama4Model {
    return new HpuLlama4Model(context);
  }
}

/** A Llama 4 with images, on Gaudi. vllm_gaudi: `HpuLlama4ForConditionalGeneration`. */
export class HpuLlama4ForConditionalGeneration extends Llama4ForConditionalGeneration {
  override createLanguageModel(context: ModelContext): HpuLlama4ForCausalLM {
    return new HpuLlama4ForCausalLM(context);
  }
}
