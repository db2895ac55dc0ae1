import type { CheckpointTensor } from './checkpoint.ts';
import { at, CheckpointCorruptError, GgufUnsupportedError } from './errors.ts';

type Metadata = ReadonlyMap<string, unknown>;

/**
 * A `llama` GGUF's metadata in the form of the config.json of a Llama 4 text model with one kind of layer: dense, RoPE everywhere, no q/k norm,
 * one attention chunk as long as the context. Not validated; the config schema does that as with any other.
 * @throws GgufUnsupportedError for another architecture or a rope scaling that cannot be expressed, CheckpointCorruptError for a missing key.
 */
export function configOfGguf(path: string, metadata: Metadata, tensors: ReadonlyMap<string, CheckpointTensor>): Record<string, unknown> {
  const architecture = metadata.get('general.architecture');
  if (architecture !== 'llama') {
    throw new GgufUnsupportedError({
      what: `The GGUF's architecture is ${JSON.stringify(architecture ?? null)}; supported is "llama".`,
      where: path,
    });
  }
  const number = numbersOf(path, metadata);
  const heads = number('llama.attention.head_count');
  const hidden = number('llama.embedding_length');
  const headDim = number('llama.attention.key_length', hidden / heads);
  const layers = number('llama.block_count');
  const context = number('llama.context_length');
  const intermediate = number('llama.feed_forward_length');
  refuseOtherModels(path, metadata, tensors, headDim);
  return {
    architectures: ['Llama4ForCausalLM'],
    model_type: 'llama4_text',
    hidden_size: hidden,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: number('llama.attention.head_count_kv', heads),
    head_dim: headDim,
    intermediate_size: intermediate,
    intermediate_size_mlp: intermediate,
    hidden_act: 'silu',
    rms_norm_eps: number('llama.attention.layer_norm_rms_epsilon'),
    rope_parameters: ropeParameters(path, metadata),
    max_position_embeddings: context,
    attention_chunk_size: context,
    vocab_size: vocabularySize(path, metadata, tensors),
    tie_word_embeddings: !tensors.has('output.weight'),
    moe_layers: [],
    no_rope_layers: Array.from({ length: layers }, () => 1),
    use_qk_norm: false,
    attention_bias: tensors.has('blk.0.attn_q.bias'),
    attn_temperature_tuning: false,
    ...tokenIds(metadata),
  };
}

type ReadNumber = (key: string, fallback?: number) => number;

const largestLayerCount = 10_000;

function numbersOf(path: string, metadata: Metadata): ReadNumber {
  return (key, fallback) => {
    const value = metadata.get(key) ?? fallback;
    if (typeof value === 'number' && Number.isFinite(value) && value > 0 && !(key === 'llama.block_count' && value > largestLayerCount))
      return value;
    throw new CheckpointCorruptError({
      what: `The metadata key "${key}" is ${value === undefined ? 'missing' : String(value)}, and should be a positive number.`,
      where: path,
    });
  };
}

/** What a `llama` GGUF may also be, and a Llama 4 with one kind of layer is not. */
function refuseOtherModels(path: string, metadata: Metadata, tensors: ReadonlyMap<string, CheckpointTensor>, headDim: number): void {
  const refuse = (what: string, key?: string): never => {
    throw new GgufUnsupportedError({ what, where: at(path, key), fix: 'use another model, or the safetensors checkpoint of this one.' });
  };
  const experts = metadata.get('llama.expert_count');
  if (typeof experts === 'number' && experts > 0) refuse(`The GGUF is a mixture of ${experts} experts in Mixtral's form.`);
  if (tensors.has('rope_freqs.weight'))
    refuse('The GGUF scales its rope frequencies by a table ("rope_freqs.weight", Llama 3 scaling).', 'rope_freqs.weight');
  const rotated = metadata.get('llama.rope.dimension_count') ?? headDim;
  if (rotated !== headDim) refuse(`Only ${String(rotated)} of ${headDim} dimensions of a head are rotated.`);
  const valueLength = metadata.get('llama.attention.value_length') ?? headDim;
  if (valueLength !== headDim) refuse(`Keys have ${headDim} dimensions a head and values ${String(valueLength)}.`);
}

function ropeParameters(path: string, metadata: Metadata): Record<string, unknown> {
  const rope_theta = metadata.get('llama.rope.freq_base') ?? 10000;
  const type = metadata.get('llama.rope.scaling.type') ?? (metadata.has('llama.rope.scale_linear') ? 'linear' : 'none');
  const factor = metadata.get('llama.rope.scaling.factor') ?? metadata.get('llama.rope.scale_linear') ?? 1;
  if (type === 'none' || (type === 'linear' && factor === 1)) return { rope_type: 'default', rope_theta };
  if (type === 'linear') return { rope_type: 'linear', factor, rope_theta };
  throw new GgufUnsupportedError({
    what: `The rope scaling type is ${JSON.stringify(type)}; supported are "none" and "linear".`,
    where: `${path}, metadata key "llama.rope.scaling.type"`,
    fix: 'use a GGUF without this scaling.',
  });
}

function vocabularySize(path: string, metadata: Metadata, tensors: ReadonlyMap<string, CheckpointTensor>): number {
  const size = tensors.get('token_embd.weight')?.shape[0] ?? metadata.get('llama.vocab_size');
  if (typeof size === 'number') return size;
  throw new CheckpointCorruptError({
    what: 'The GGUF has neither "token_embd.weight" nor the metadata key "llama.vocab_size".',
    where: path,
  });
}

function tokenIds(metadata: Metadata): Record<string, unknown> {
  const ids: Record<string, unknown> = {};
  for (const [name, key] of [
    ['bos_token_id', 'bos'],
    ['eos_token_id', 'eos'],
    ['pad_token_id', 'padding'],
  ] as const) {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`);
    if (typeof id === 'number') ids[name] = id;
  }
  return ids;
}
