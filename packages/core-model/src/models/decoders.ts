import { LlamaForCausalLM } from './llama.ts';

// LlamaForCausalLM under the name of each architecture, so that an override can target one of them.
export class Gemma2ForCausalLM extends LlamaForCausalLM {}
export class Gemma3ForCausalLM extends LlamaForCausalLM {}
export class Gemma3ForConditionalGeneration extends LlamaForCausalLM {}
export class GptOssForCausalLM extends LlamaForCausalLM {}
export class GraniteForCausalLM extends LlamaForCausalLM {}
export class Ministral3ForCausalLM extends LlamaForCausalLM {}
export class Mistral3ForConditionalGeneration extends LlamaForCausalLM {}
export class MistralForCausalLM extends LlamaForCausalLM {}
export class MixtralForCausalLM extends LlamaForCausalLM {}
export class Olmo2ForCausalLM extends LlamaForCausalLM {}
export class Phi3ForCausalLM extends LlamaForCausalLM {}
export class Qwen2ForCausalLM extends LlamaForCausalLM {}
export class Qwen3ForCausalLM extends LlamaForCausalLM {}
export class Qwen3MoeForCausalLM extends LlamaForCausalLM {}
export class SmolLM3ForCausalLM extends LlamaForCausalLM {}
