import {
  type IntermediateTensors,
  type Llama4Config,
  Llama4ForCausalLM,
  Llama4ForConditionalGeneration,
  Llama4Model,
  type ModelContext,
  type ModelOutput,
} from '@graft/core-model';
import type { Tensor } from '@graft/graph';
import { InitHook, type Patches, PostLoadHook } from '@graft/registry';
import { decoderLayers } from '../layer-kinds.ts';
import { hpuOptionsOf } from '../options.ts';
import { unifyAttentionTypes } from '../patches/attention-types.ts';
import { applyBranchFreeAttention } from '../patches/branch-free-attention.ts';
import { unifyFeedForwardTypes } from '../patches/feed-forward-types.ts';

const inCompileMode = ['compile'];

/**
 * Removes the guard on `residual`, which is null only on the first decoder layer. With zeros in its place, as if an earlier rank had sent them, the first
 * layer shares the graph of its kind. Adding zeros changes no value. vllm_gaudi: `HpuLlama4Model`, which copies upstream's `forward`.
 */
export class HpuLlama4Model extends Llama4Model {
  /** See `HpuLlama4Options`. */
  readonly branchFree: boolean;

  constructor(context: ModelContext<Llama4Config>) {
    super(context);
    this.branchFree = hpuOptionsOf(context).branchFree;
  }

  override forward(ids: Tensor, positions: Tensor, intermediate: IntermediateTensors | null, inputsEmbeds: Tensor | null): ModelOutput {
    if (intermediate !== null) return super.forward(ids, positions, intermediate, inputsEmbeds);
    const embedded = inputsEmbeds ?? this.embedInputIds(ids);
    return super.forward(ids, positions, { hidden_states: embedded, residual: embedded.zerosLike() }, null);
  }
}

/** A Llama 4 that continues text, on Gaudi. vllm_gaudi does not register its `HpuLlama4ForCausalLM`, nor patch it after load. */
export class HpuLlama4ForCausalLM extends Llama4ForCausalLM {
  @InitHook({ modes: inCompileMode, reason: 'makes the attention of all layers alike' })
  unifyLayers(patches: Patches): void {
    applyHpuLlama4InitPatches(this, patches);
  }

  @PostLoadHook({ modes: inCompileMode, reload: 'keep', reason: 'makes the feed-forward parts of all layers alike' })
  unifyFeedForward(patches: Patches): void {
    applyHpuLlama4PostLoadPatches(this, patches);
  }
}

/** A Llama 4 with images, on Gaudi. Its language model is a `HpuLlama4ForCausalLM`, whose hooks run. vllm_gaudi: the same name. */
export class HpuLlama4ForConditionalGeneration extends Llama4ForConditionalGeneration {}

/** Whether this plugin patches the model. vllm_gaudi's `is_hpu_llama4_model` is false for the architecture without images. */
export function isHpuLlama4Model(model: object): model is HpuLlama4ForCausalLM | HpuLlama4ForConditionalGeneration {
  return model instanceof HpuLlama4ForCausalLM || model instanceof HpuLlama4ForConditionalGeneration;
}

/**
 * Removes the guards on the class of `self_attn.attn` and, unless `branchFree` is false, on the fields that differ between RoPE and NoPE layers. Changes no
 * parameter and no other model. vllm_gaudi: `apply_hpu_llama4_init_patches`, without branch-free attention.
 */
export function applyHpuLlama4InitPatches(model: object, patches: Patches): void {
  if (!isHpuLlama4Model(model)) return;
  const layers = decoderLayers(model);
  const inner = innerModelOf(model);
  unifyAttentionTypes(layers, patches);
  if (inner instanceof HpuLlama4Model && inner.branchFree) applyBranchFreeAttention(layers, patches);
}

/**
 * Removes the guard on the class of `feed_forward`. It renames parameters, so it runs after the weights are loaded. Changes no other model.
 * vllm_gaudi: `apply_hpu_llama4_post_load_patches`, which its runner calls only for the multimodal class.
 */
export function applyHpuLlama4PostLoadPatches(model: object, patches: Patches): void {
  if (isHpuLlama4Model(model)) unifyFeedForwardTypes(decoderLayers(model), patches);
}

function innerModelOf(model: HpuLlama4ForCausalLM | HpuLlama4ForConditionalGeneration): Llama4Model {
  return model instanceof HpuLlama4ForCausalLM ? model.model : model.language_model.model;
}
