export { type BucketRanges, bucketRanges, bucketSizes, type FullRange, hpuBucketPolicy, hpuBuckets } from './buckets.ts';
export { hasHeterogeneousLayers, layerKinds } from './layer-kinds.ts';
export {
  applyHpuLlama4InitPatches,
  applyHpuLlama4PostLoadPatches,
  HpuLlama4ForCausalLM,
  HpuLlama4ForConditionalGeneration,
  HpuLlama4Model,
  isHpuLlama4Model,
} from './models/llama4.ts';
export { type HpuLlama4Options, HpuOptionError } from './options.ts';
export { unifyAttentionTypes } from './patches/attention-types.ts';
export {
  applyBranchFreeAttention,
  type BranchFreeAttention,
  branchFreeAttentionForward,
  patchAttentionModule,
} from './patches/branch-free-attention.ts';
export { HpuLlama4FeedForward, unifyFeedForwardTypes } from './patches/feed-forward-types.ts';
export { type HpuMode, HpuPlatform } from './platform.ts';
export { type BucketRange, type BucketStrategy, HpuPlatformOptions, parseHpuPlatformOptions } from './platform-options.ts';
export { EagerRunner, HpuModelRunner } from './runner.ts';
export { chunkedAttentionLayers, hpuAttnScale, patchAttentionScale, setChunkedAttention } from './runner-patches.ts';
