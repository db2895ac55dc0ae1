import type { BackendChoice } from './run-case.ts';

export const cpu: BackendChoice = { name: 'cpu', plugins: ['@graft/cpu'] };
/** Weights in the form that is faithful to the file. */
export const cpuQuantised: BackendChoice = { ...cpu, label: 'cpu, default form', form: 'auto' };
export const interpreter: BackendChoice = {
  name: 'interpreter',
  plugins: [new URL('./interpreter-plugin.ts', import.meta.url).href],
};

/** Emulated, in float32 only. Where the logits of each token of a prompt are asked for, it computes them one by one. */
export const hpu: BackendChoice = { name: 'hpu', plugins: ['@graft/llama4-hpu'], weights: ['float32'] };
/** The same with prompts in buckets, of which the last token's logits are compared, and all residual streams. */
export const hpuBuckets: BackendChoice = { ...hpu, label: 'hpu, prompts in buckets', promptLogits: false };
