import { aligned } from '@graft/graph';
import { at, CheckpointCorruptError, GgufUnsupportedError } from '../weights/errors.ts';
import { openFileBytes } from '../weights/file-bytes.ts';
import type { GgufFile } from './family.ts';

const largestLayerCount = 10_000;

/** The metadata keys that begin with a GGUF's architecture. */
export class GgufMetadata {
  readonly file: GgufFile;
  readonly architecture: string;

  constructor(file: GgufFile) {
    this.file = file;
    this.architecture = String(file.metadata.get('general.architecture'));
  }

  get(key: string): unknown {
    return this.file.metadata.get(`${this.architecture}.${key}`);
  }

  /** @throws CheckpointCorruptError for a key without value or `fallback`, or a value that is not a positive number. */
  number(key: string, fallback?: number): number {
    const given = this.get(key) ?? fallback;
    // One number for each layer counts as one where all are equal.
    const value = Array.isArray(given) && new Set(given).size === 1 ? given[0] : given;
    const limit = key === 'block_count' ? largestLayerCount : Number.POSITIVE_INFINITY;
    if (typeof value === 'number' && Number.isFinite(value) && value > 0 && value <= limit) return value;
    const found = value === undefined ? 'missing' : String(value);
    const what = `The metadata key "${this.architecture}.${key}" is ${found}, and should be a positive number.`;
    throw new CheckpointCorruptError(what, this.file.path);
  }

  has(tensor: string): boolean {
    return this.file.tensors.has(tensor);
  }

  /** The numbers of a small float32 tensor; null for an unknown name. */
  floats(name: string): number[] | null {
    const tensor = this.file.tensors.get(name);
    if (tensor === undefined) return null;
    if (tensor.dtype !== 'F32') this.refuse(`The tensor is ${tensor.dtype}, and should be F32.`, name);
    const file = openFileBytes(tensor.file.path); // the checkpoint may be closed already: `explain` reads configs alone
    try {
      return [...aligned(file.read(tensor.offset, tensor.byteLength), Float32Array)];
    } finally {
      file.close();
    }
  }

  /** @throws GgufUnsupportedError */
  refuse(what: string, tensor?: string, fix = 'use another model, or the safetensors checkpoint of this one.'): never {
    throw new GgufUnsupportedError(what, at(this.file.path, tensor), { fix });
  }
}

/**
 * The config.json of a decoder's GGUF, from the metadata that every decoder has. Not validated: the family's schema does that.
 * @throws GgufUnsupportedError for a rope scaling that cannot be expressed, CheckpointCorruptError for a missing key.
 */
export function ggufDecoderConfig(file: GgufFile): Record<string, unknown> {
  const metadata = new GgufMetadata(file);
  const heads = metadata.number('attention.head_count');
  const hidden = metadata.number('embedding_length');
  const headDim = metadata.number('attention.key_length', hidden / heads);
  if (metadata.get('attention.causal') === false)
    metadata.refuse('Attention to later tokens is not computed ("attention.causal" is false).');
  const valueLength = metadata.get('attention.value_length') ?? headDim;
  if (valueLength !== headDim) metadata.refuse(`Keys have ${headDim} dimensions a head and values ${String(valueLength)}.`);
  return {
    hidden_size: hidden,
    num_hidden_layers: metadata.number('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: metadata.number('attention.head_count_kv', heads),
    head_dim: headDim,
    intermediate_size: metadata.number('feed_forward_length'),
    rms_norm_eps: metadata.number('attention.layer_norm_rms_epsilon'),
    max_position_embeddings: metadata.number('context_length'),
    rope_parameters: ropeParameters(metadata, headDim),
    attention_bias: metadata.has('blk.0.attn_output.bias'),
    qkv_bias: metadata.has('blk.0.attn_q.bias'),
    mlp_bias: metadata.has('blk.0.ffn_up.bias'),
    vocab_size: vocabularySize(file, metadata),
    tie_word_embeddings: !file.tensors.has('output.weight'),
    ...tokenIds(file),
  };
}

/** As `rope_parameters`. Tensors with divisors win over `rope.scaling.type`, which files with such tensors may lack. */
function ropeParameters(metadata: GgufMetadata, headDim: number): Record<string, unknown> {
  const rotated = metadata.number('rope.dimension_count', headDim);
  const shared = {
    rope_theta: metadata.get('rope.freq_base') ?? 10000,
    ...(rotated !== headDim && { rotary_dim: rotated }),
    ...(metadata.architecture === 'mistral3' && {
      llama_4_scaling_beta: metadata.get('attention.temperature_scale') ?? null,
      original_max_position_embeddings: metadata.get('rope.scaling.original_context_length') ?? null,
    }),
  };
  const local = metadata.get('rope.freq_base_swa') ?? shared.rope_theta;
  if (metadata.architecture !== 'gemma3' && local !== shared.rope_theta)
    metadata.refuse(`Layers with a window have another rope base, ${String(local)}.`);
  const factors = metadata.floats('rope_freqs.weight');
  const [short_factor, long_factor] = [metadata.floats('rope_factors_short.weight'), metadata.floats('rope_factors_long.weight')];
  const linear = metadata.get('rope.scale_linear');
  const type = metadata.get('rope.scaling.type') ?? 'linear';
  const factor = metadata.get('rope.scaling.factor') || linear || 1; // zero counts as missing
  const original_max_position_embeddings = metadata.get('rope.scaling.original_context_length') ?? null;
  const isScaled = factor !== 1 && type !== 'none';
  if ((factors ?? short_factor) !== null && isScaled)
    metadata.refuse(`Tensors give divisors of the frequencies, and they are scaled by ${String(factor)} too.`);
  if (type === 'none' && factor !== 1)
    metadata.refuse(
      `The metadata key "${metadata.architecture}.rope.scaling.factor" is ${String(factor)}, but the type of scaling is "none".`,
    );
  if (factors !== null) return { rope_type: 'factors', factors, ...shared };
  if (short_factor !== null && long_factor !== null) {
    const attention_factor = metadata.get('rope.scaling.attn_factor') ?? null;
    return { rope_type: 'longrope', short_factor, long_factor, original_max_position_embeddings, attention_factor, ...shared };
  }
  for (const [key, neutral] of [
    ['attn_factor', 1],
    ...(metadata.architecture === 'mistral3' ? [] : [['yarn_log_multiplier', 0] as const]),
  ] as const) {
    const value = metadata.get(`rope.scaling.${key}`) ?? neutral;
    if (value !== neutral)
      metadata.refuse(`The metadata key "${metadata.architecture}.rope.scaling.${key}" is ${String(value)}, which is not computed.`);
  }
  if (type === 'none' || (type === 'linear' && factor === 1)) return { rope_type: 'default', ...shared };
  if (type === 'linear') return { rope_type: 'linear', factor, ...shared };
  if (type === 'yarn') {
    return {
      rope_type: 'yarn',
      factor,
      original_max_position_embeddings,
      beta_fast: metadata.get('rope.scaling.yarn_beta_fast') ?? null,
      beta_slow: metadata.get('rope.scaling.yarn_beta_slow') ?? null,
      mscale: 1,
      mscale_all_dim: metadata.get('rope.scaling.yarn_log_multiplier') ?? null,
      ...shared,
    };
  }
  const what = `The metadata key "${metadata.architecture}.rope.scaling.type" is ${JSON.stringify(type)}; supported are "none", "linear" and "yarn".`;
  return metadata.refuse(what, undefined, 'use a GGUF without this scaling.');
}

function vocabularySize({ path, tensors }: GgufFile, metadata: GgufMetadata): number {
  const size = tensors.get('token_embd.weight')?.shape[0] ?? metadata.get('vocab_size');
  if (typeof size === 'number') return size;
  throw new CheckpointCorruptError(
    `The GGUF has neither "token_embd.weight" nor the metadata key "${metadata.architecture}.vocab_size".`,
    path,
  );
}

function tokenIds({ metadata }: GgufFile): Record<string, unknown> {
  const ids = ['bos', 'eos'].map((name) => [`${name}_token_id`, metadata.get(`tokenizer.ggml.${name}_token_id`)] as const);
  return Object.fromEntries(ids.filter(([, id]) => typeof id === 'number'));
}
