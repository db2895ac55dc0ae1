import { z } from 'zod';
import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { llamaConfig } from './llama-config.ts';
import { llamaGguf } from './llama-gguf.ts';

const factor = z.number().positive().default(1);

/** Granite 3: a Llama that scales embeddings, scores, logits, and what each part adds to the residual stream. */
export const granite = defineFamily({
  name: 'granite',
  config: llamaConfig(
    { embedding_multiplier: factor, attention_multiplier: factor, residual_multiplier: factor, logits_scaling: factor },
    (config) => ({
      windowsAreFixed: true,
      windowed: () => false,
      embeddingScale: config.embeddingMultiplier,
      attentionScale: config.attentionMultiplier,
      residualScale: config.residualMultiplier,
      logitsScale: config.logitsScaling,
    }),
  ),
  weights: (config) => decoderWeights(config),
  gguf: llamaGguf('GraniteForCausalLM', ['granite'], {
    inPairs: true,
    config: (metadata) => ({
      embedding_multiplier: metadata.number('embedding_scale', 1),
      attention_multiplier: metadata.number('attention.scale', 1),
      residual_multiplier: metadata.number('residual_scale', 1),
      logits_scaling: metadata.number('logit_scale', 1),
    }),
  }),
  small: smallOf('GraniteForCausalLM', {
    embedding_multiplier: 1.6,
    attention_multiplier: 0.5,
    residual_multiplier: 0.8,
    logits_scaling: 2,
  }),
});
