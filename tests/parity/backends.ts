import type { BackendChoice } from './run-case.ts';

export const cpu: BackendChoice = { name: 'cpu', plugins: ['@graft/cpu'] };
/** Weights in the form that is faithful to the file. */
export const cpuQuantised: BackendChoice = { ...cpu, label: 'cpu, default form', form: 'auto' };
export const interpreter: BackendChoice = {
  name: 'interpreter',
  plugins: [new URL('./interpreter-plugin.ts', import.meta.url).href],
};
/** ggml on the CPU, with caches in float32. */
export const ggml: BackendChoice = { name: 'ggml', plugins: [new URL('./ggml-plugin.ts', import.meta.url).href] };
/** Weights in ggml's own types where these hold the file's values. */
export const ggmlQuantised: BackendChoice = { ...ggml, label: 'ggml, default form', form: 'auto' };

/** Emulated, in float32 only. Where the logits of each token of a prompt are asked for, it computes them one by one. */
export const hpu: BackendChoice = { name: 'hpu', plugins: ['@graft/llama4-hpu'], weights: ['float32'] };
/** The same with prompts in buckets, of which the last token's logits are compared, and all residual streams. */
export const hpuBuckets: BackendChoice = { ...hpu, label: 'hpu, prompts in buckets', promptLogits: false };

/** ggml's Vulkan, by name: on a GPU, or on lavapipe with GGML_VK_VISIBLE_DEVICES=0. Prompts run in buckets; caches are float16. */
export const vulkan: BackendChoice = {
  name: 'vulkan',
  plugins: ['@graft/gpu'],
  weights: ['float32'],
  promptLogits: false,
  relativeTolerance: 1e-2,
};
export const vulkanQuantised: BackendChoice = { ...vulkan, label: 'vulkan, default form', form: 'auto', promptLogits: true };
