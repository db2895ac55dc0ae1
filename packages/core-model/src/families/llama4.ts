import { either, perExpert, stack, transposed } from '../weights/rules.ts';
import { smallDecoder } from './config-schema.ts';
import { decoderWeights, ggufWeights } from './decoder-weights.ts';
import { defineFamily } from './define-family.ts';
import type { RawConfig } from './family.ts';
import { GgufMetadata, ggufDecoderConfig } from './gguf-config.ts';
import { ggufExperts } from './llama-gguf.ts';
import { Llama4Config } from './llama4-config.ts';

const visionParts = ['vision_model.*', 'multi_modal_projector.*'];

/** Llama 4, with its vision tower or for text alone. Its checkpoints store the rows of q and k in pairs, as its rotation needs them. */
export const llama4 = defineFamily({
  name: 'llama4',
  config: Llama4Config,
  weights: (config) =>
    decoderWeights(
      config,
      {
        'vision_model.*.qkv_proj.*': stack(['vision_model.*.q_proj.*', 'vision_model.*.k_proj.*', 'vision_model.*.v_proj.*']),
        '*.experts.w13_weight': either(
          transposed('*.experts.gate_up_proj'),
          perExpert(stack(['*.experts.#.gate_proj.weight', '*.experts.#.up_proj.weight'])),
        ),
        '*.experts.w2_weight': either(transposed('*.experts.down_proj'), perExpert('*.experts.#.down_proj.weight')),
      },
      { prefix: 'language_model.', firstRank: visionParts, unused: config.vision === null ? visionParts : [] },
    ),
  gguf: {
    architectures: ['llama4'],
    // What the file lacks is as in llama.cpp: the keys that are not here have its values as their defaults.
    config(file) {
      const metadata = new GgufMetadata(file);
      const experts = ggufExperts(metadata);
      return {
        architectures: ['Llama4ForCausalLM'],
        ...ggufDecoderConfig(file),
        ...experts,
        intermediate_size: metadata.number('expert_feed_forward_length'),
        intermediate_size_mlp: metadata.number('feed_forward_length'),
        interleave_moe_layer_step: metadata.number('interleave_moe_layer_step'),
        use_qk_norm: experts['num_local_experts'] !== 128, // Maverick has none
      };
    },
    weights: (config) =>
      ggufWeights(config, {
        mlp: 'feed_forward',
        rules: {
          'model.layers.*.feed_forward.router.*': 'blk.*.ffn_gate_inp.*',
          'model.layers.*.feed_forward.shared_expert.gate_up_proj.*': stack(['blk.*.ffn_gate_shexp.*', 'blk.*.ffn_up_shexp.*']),
          'model.layers.*.feed_forward.shared_expert.down_proj.*': 'blk.*.ffn_down_shexp.*',
        },
      }),
  },
  images: {
    tower: ({ vision }) => vision,
    tokens: { image: '<|image|>', patch: '<|patch|>' },
    layout({ rows, columns }, tokensPerTile) {
      const tile = new Array<string>(tokensPerTile).fill('<|patch|>');
      const tiles = rows * columns === 1 ? 0 : rows * columns;
      const parts = Array.from({ length: tiles }, (_, i) => [
        ...tile,
        (i + 1) % columns === 0 ? '<|tile_y_separator|>' : '<|tile_x_separator|>',
      ]);
      return ['<|image_start|>', ...parts.flat(), '<|image|>', ...tile, '<|image_end|>'];
    },
  },
  small: (layers = 8) => ({
    Llama4ForCausalLM: { architectures: ['Llama4ForCausalLM'], ...smallText(layers) },
    Llama4ForConditionalGeneration: {
      architectures: ['Llama4ForConditionalGeneration'],
      image_token_index: 300,
      text_config: smallText(layers),
      vision_config: smallVision,
    },
  }),
});

/** Eight layers reach every branch: MoE and dense, RoPE and NoPE with temperature tuning, attention in chunks of 16 and full, q/k norm. */
function smallText(layers: number): RawConfig {
  const indices = Array.from({ length: layers }, (_, i) => i);
  return smallDecoder(layers, {
    intermediate_size: 32,
    intermediate_size_mlp: 64,
    attention_chunk_size: 16,
    floor_scale: 8,
    no_rope_layers: indices.map((i) => (i % 4 === 3 ? 0 : 1)),
    moe_layers: indices.filter((i) => i % 2 === 1),
    num_local_experts: 4,
  });
}

const smallVision = {
  hidden_size: 32,
  image_size: 56,
  intermediate_size: 128,
  num_attention_heads: 4,
  num_hidden_layers: 2,
  patch_size: 14,
  projector_input_dim: 48,
  projector_output_dim: 48,
  vision_output_dim: 48,
};
