import { definePlugin, type LazyClass, type LazyFamily } from '@graft/registry';

const llama = () => import('../families/llama.ts').then((m) => m.llama);
const decoders = () => import('./decoders.ts');
const llama4 = () => import('../families/llama4.ts').then((m) => m.llama4);
const llamaModels = () => import('./llama.ts');
const llama4Models = () => import('./llama4.ts');
const multimodal = () => import('./mllama4.ts');
const attention = () => import('../layers/attention.ts');
const embedding = () => import('../layers/embedding.ts');
const linear = () => import('../layers/linear.ts');
const moe = () => import('../layers/fused-moe.ts');
const norm = () => import('../layers/norm.ts');
const rotary = () => import('../layers/rotary.ts');
const vision = () => import('../layers/vision.ts');

/** Families in Llama's form, by their architecture. */
const families: Readonly<Record<string, LazyFamily>> = {
  Gemma2ForCausalLM: () => import('../families/gemma2.ts').then((m) => m.gemma2),
  Gemma3ForCausalLM: () => import('../families/gemma3.ts').then((m) => m.gemma3),
  Gemma3ForConditionalGeneration: () => import('../families/gemma3.ts').then((m) => m.gemma3),
  GptOssForCausalLM: () => import('../families/gpt-oss.ts').then((m) => m.gptOss),
  GraniteForCausalLM: () => import('../families/granite.ts').then((m) => m.granite),
  Ministral3ForCausalLM: llama,
  Mistral3ForConditionalGeneration: llama,
  MistralForCausalLM: llama,
  MixtralForCausalLM: () => import('../families/mixtral.ts').then((m) => m.mixtral),
  Olmo2ForCausalLM: () => import('../families/olmo2.ts').then((m) => m.olmo2),
  Phi3ForCausalLM: () => import('../families/phi3.ts').then((m) => m.phi3),
  Qwen2ForCausalLM: () => import('../families/qwen2.ts').then((m) => m.qwen2),
  Qwen3ForCausalLM: () => import('../families/qwen3.ts').then((m) => m.qwen3),
  Qwen3MoeForCausalLM: () => import('../families/qwen3-moe.ts').then((m) => m.qwen3Moe),
  SmolLM3ForCausalLM: () => import('../families/smollm3.ts').then((m) => m.smolLm3),
};

/** The classes of a module that plugins may override. */
function partsOf<M>(module: () => Promise<M>, ...names: (keyof M & string)[]): Record<string, LazyClass> {
  return Object.fromEntries(
    names.map((name): [string, LazyClass] => [name, () => module().then((m) => m[name] as Awaited<ReturnType<LazyClass>>)]),
  );
}

/** The upstream models and their parts. They are imported when a model is resolved. */
export const coreModels = definePlugin({
  name: 'core-model',
  manifest: () => import('../manifest.ts').then((m) => m.manifest),
  models: [
    { architecture: 'LlamaForCausalLM', model: () => llamaModels().then((m) => m.LlamaForCausalLM), family: llama },
    ...Object.entries(partsOf(decoders, ...(Object.keys(families) as (keyof typeof import('./decoders.ts'))[]))).map(
      ([architecture, model]) => ({ architecture, model, family: families[architecture]! }),
    ),
    { architecture: 'Llama4ForCausalLM', model: () => llama4Models().then((m) => m.Llama4ForCausalLM), family: llama4 },
    {
      architecture: 'Llama4ForConditionalGeneration',
      model: () => multimodal().then((m) => m.Llama4ForConditionalGeneration),
      family: llama4,
      capabilities: { images: true },
      contains: ['Llama4ForCausalLM'],
    },
  ],
  layers: {
    ...partsOf(
      llamaModels,
      'Gemma2DecoderLayer',
      'LlamaAttention',
      'LlamaDecoderLayer',
      'LlamaMlp',
      'LlamaModel',
      'Olmo2DecoderLayer',
      'SparseMoe',
    ),
    ...partsOf(llama4Models, 'Llama4Attention', 'Llama4DecoderLayer', 'Llama4Model', 'Llama4Moe'),
    ...partsOf(attention, 'Attention', 'ChunkedLocalAttention'),
    ...partsOf(embedding, 'Embedding'),
    ...partsOf(linear, 'Linear'),
    ...partsOf(moe, 'FusedMoe'),
    ...partsOf(norm, 'GemmaRmsNorm', 'HeadRmsNorm', 'LayerNorm', 'RmsNorm'),
    ...partsOf(rotary, 'RotaryEmbedding'),
    ...partsOf(vision, 'Llama4MultiModalProjector', 'Llama4VisionAttention', 'Llama4VisionEncoder', 'Llama4VisionEncoderLayer'),
    ...partsOf(vision, 'Llama4VisionMlp', 'Llama4VisionModel', 'Llama4VisionPixelShuffleMlp'),
    ...partsOf(vision, 'UnfoldConvolution', 'VisionRotaryEmbedding'),
  },
});
