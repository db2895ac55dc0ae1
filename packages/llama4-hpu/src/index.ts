export { HpuLlama4ForCausalLM, HpuLlama4ForConditionalGeneration, HpuLlama4Model } from './models/llama4.ts';
export { HpuPlatform } from './platform.ts';
