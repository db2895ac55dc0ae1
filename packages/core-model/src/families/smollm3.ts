import { z } from 'zod';
import { contradiction, positive } from './config-keys.ts';
import { smallOf } from './config-schema.ts';
import { decoderWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import { llamaConfig, windowSwitch } from './llama-config.ts';
import { llamaGguf } from './llama-gguf.ts';

/** SmolLM3: a Llama whose every fourth layer has no positions, as `no_rope_layers` says with zeros. */
export const smolLm3 = defineFamily({
  name: 'smollm3',
  config: llamaConfig(
    {
      no_rope_layers: z.array(z.union([z.literal(0), z.literal(1)])).nullish(),
      no_rope_layer_interval: positive.default(4),
      ...windowSwitch,
      tie_word_embeddings: z.boolean().default(true),
    },
    ({ noRopeLayers, noRopeLayerInterval, numHiddenLayers }, context) => {
      if (noRopeLayers && noRopeLayers.length !== numHiddenLayers)
        contradiction(context, `no_rope_layers has ${noRopeLayers.length} entries, but num_hidden_layers is ${numHiddenLayers}`);
      const rotated = (layer: number): boolean => (noRopeLayers ? noRopeLayers[layer] === 1 : (layer + 1) % noRopeLayerInterval !== 0);
      return { rotated, windowed: (layer) => !rotated(layer) };
    },
    { ropeTheta: 2_000_000 },
  ),
  weights: (config) => decoderWeights(config),
  gguf: llamaGguf('SmolLM3ForCausalLM', ['smollm3'], { inPairs: true }),
  small: smallOf('SmolLM3ForCausalLM'),
});
