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
import { type Build, InitHook, type Patches, PostLoadHook } from '@graft/registry';
import { decoderLayers } from '../layer-kinds.ts';
import { hpuOptionsOf } from '../options.ts';
import { unifyAttentionTypes } from '../patches/attention-types.ts';
import { applyBranchFreeAttention } from '../patches/branch-free-attention.ts';
import { unifyFeedForwardTypes } from '../patches/feed-forward-types.ts';

const inCompileMode = ['compile'];

/**
 * Removes the guard on `residual`, which is null on the first decoder layer only: with zeros there, as if a rank before had handed them over,
 * the first layer takes the same graph as the others of its kind. Adding zeros changes no value. vllm_gaudi: `HpuLlama4Model`, which copies upstream's
 * `forward` for it.
 */
export class HpuLlama4Model extends Llama4Model {
  /** Whether the init hook makes attention branch-free; see `HpuLlama4Options`. */
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

/** `context`, whose `build` gives an `Hpu` for an `Upstream`. */
function building<C extends new (context: ModelContext<Llama4Config>) => object>(context: ModelContext<Llama4Config>, Upstream: C, Hpu: C) {
  const build: Build = (Class, ...args) =>
    context.build((Class as unknown) === Upstream ? (Hpu as unknown as typeof Class) : Class, ...args);
  return { ...context, build };
}

/** A Llama 4 that continues text, on Gaudi. vllm_gaudi: `HpuLlama4ForCausalLM`, which it does not register and gives no post-load patch; here it is whole. */
export class HpuLlama4ForCausalLM extends Llama4ForCausalLM {
  constructor(context: ModelContext<Llama4Config>) {
    super(building(context, Llama4Model, HpuLlama4Model));
  }

  @InitHook({ modes: inCompileMode, reason: 'makes the attention of all layers alike' })
  unifyLayers(patches: Patches): void {
    applyHpuLlama4InitPatches(this, patches);
  }

  @PostLoadHook({ modes: inCompileMode, reload: 'keep', reason: 'makes the feed-forward parts of all layers alike' })
  unifyFeedForward(patches: Patches): void {
    applyHpuLlama4PostLoadPatches(this, patches);
  }
}

/** A Llama 4 with images, on Gaudi; its language model runs the hooks of its own class. vllm_gaudi: `HpuLlama4ForConditionalGeneration`. */
export class HpuLlama4ForConditionalGeneration extends Llama4ForConditionalGeneration {
  constructor(context: ModelContext<Llama4Config>) {
    super(building(context, Llama4ForCausalLM, HpuLlama4ForCausalLM));
  }
}

/** Whether the patches of this plugin are for this model: both architectures. vllm_gaudi's `is_hpu_llama4_model` is false for the one without images. */
export function isHpuLlama4Model(model: object): model is HpuLlama4ForCausalLM | HpuLlama4ForConditionalGeneration {
  return model instanceof HpuLlama4ForCausalLM || model instanceof HpuLlama4ForConditionalGeneration;
}

/**
 * What can be done before weights are there, none of which touches a parameter: removes the guards on the class of `self_attn.attn` and, unless
 * `branchFree` is false, on what tells a RoPE from a NoPE layer. Another model is left alone. vllm_gaudi: `apply_hpu_llama4_init_patches`, which
 * leaves branch-free attention out.
 */
export function applyHpuLlama4InitPatches(model: object, patches: Patches): void {
  if (!isHpuLlama4Model(model)) return;
  const layers = decoderLayers(model);
  const inner = innerModelOf(model);
  unifyAttentionTypes(layers, patches);
  if (inner instanceof HpuLlama4Model && inner.branchFree) applyBranchFreeAttention(layers, patches);
}

/**
 * What renames parameters and has to wait for the weights: removes the guard on the class of `feed_forward`. Another model is left alone.
 * vllm_gaudi: `apply_hpu_llama4_post_load_patches`, which its runner calls for the multimodal class only.
 */
export function applyHpuLlama4PostLoadPatches(model: object, patches: Patches): void {
  if (isHpuLlama4Model(model)) unifyFeedForwardTypes(decoderLayers(model), patches);
}

function innerModelOf(model: HpuLlama4ForCausalLM | HpuLlama4ForConditionalGeneration): Llama4Model {
  return model instanceof HpuLlama4ForCausalLM ? model.model : model.language_model.model;
}
